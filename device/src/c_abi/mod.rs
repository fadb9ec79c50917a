//! The interface for C, C++ and whatever calls C: GStreamer, DeepStream, ROS.
//!
//! `device/include/headroom.h` is generated from this folder; a test compares
//! it. `device/examples/c/classify.c` is a whole program. The libraries, static
//! and shared, are built by
//!
//! ```sh
//! cargo rustc --release -p headroom-device --lib --no-default-features --features c-abi --crate-type cdylib,staticlib
//! ```
//!
//! as `libheadroom_device.so` and `libheadroom_device.a` in `target/release`.
//!
//! Rules of every function:
//! - It returns a [`Status`](status::HeadroomStatus); what went wrong is told by
//!   [`headroom_last_error`](status::headroom_last_error). Outputs are written
//!   only where it is `HEADROOM_STATUS_OK`, unless the function says otherwise.
//! - Null and unaligned pointers and wrong sizes are refused. What cannot be
//!   checked is the caller's promise: a pointer that is not null points to what
//!   its type and size say, and a handle has not been closed.
//! - Inference is in f32, unless a model or a runtime is opened by the function that asks for another precision
//!   ([`headroom_model_open_in`], [`headroom_runtime_start_in`]).
//! - No panic leaves it: `HEADROOM_STATUS_INTERNAL` reports one.
//! - Handles may be used by several threads at once, except that closing one is
//!   the last thing that happens to it.
//! - Bundles are opened if the device's policy, [`DEFAULT_POLICY_FILE`](crate::bundle::trust::DEFAULT_POLICY_FILE),
//!   admits them, whichever function opens them; where there is no such file, every bundle is. It is read each time.
#![expect(unsafe_code, reason = "pointers and exported names are unsafe by nature")]

mod client;
mod governor;
mod limits;
mod model;
mod pointer;
mod runtime;
mod session;
mod status;

use std::ffi::c_char;

pub use client::*;
pub use governor::*;
pub use limits::*;
pub use model::*;
pub use runtime::*;
pub use session::*;
pub use status::*;

/// The version of this interface. Functions and constants are only ever added within a version.
pub const HEADROOM_ABI_VERSION: u32 = 1;

/// The version of the interface that the library has; a program compares it with `HEADROOM_ABI_VERSION`.
#[unsafe(no_mangle)]
pub extern "C" fn headroom_abi_version() -> u32 {
    HEADROOM_ABI_VERSION
}

/// The version of the library, such as "0.1.0"; static.
#[unsafe(no_mangle)]
pub extern "C" fn headroom_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}
