//! What firmware of every board without an operating system does: it reads the
//! [flash image](headroom_shared::flash_image) in place, runs the governor and
//! the integer engine on the frames that come over a serial line, and tells
//! what it does. Beside a board with Linux it is that board's supervisor.
//!
//! | file | job |
//! |---|---|
//! | `board` | what the application needs of a board: a serial line, a clock, a thermometer, a watchdog |
//! | `fixed_memory` | the image's flash and the scratch memory, where the board has them |
//! | `serving` | model, governor and the rung that runs |
//! | `supervision` | companion mode: a governor for another board |
//! | `application` | answers each message; the loop |
//!
//! Messages are those of [`headroom_shared::wire::serial`]. The first one after
//! a reset comes unasked, with id 0: [`Response::Hello`], or
//! [`Response::Failed`] where the image is refused. Such firmware is in its
//! *safe state*: it infers nothing and answers every request with that error.
//! Once a second the firmware reads its thermometer, lets the governor decide
//! and sends a [`Response::Status`] with id 0.
//!
//! # Companion mode
//! The same firmware supervises a board with Linux ([`headroom_shared::wire::companion`]): a hello for companions
//! begins that, at any time, and when the host has been silent for long enough the firmware waits again. It needs no
//! image: firmware in its safe state infers nothing and supervises all the same. While it supervises, a decision takes
//! the place of the status once a second; frames are still answered, and delay a decision by as long as they take.
//!
//! There is no heap, and one loop does one thing after the other: a frame that
//! arrives while another one is inferred waits in the serial line. No interrupt
//! is used here; those of a board only fill and empty the buffers of its line.
//!
//! [`Response::Hello`]: headroom_shared::wire::Response::Hello
//! [`Response::Failed`]: headroom_shared::wire::Response::Failed
//! [`Response::Status`]: headroom_shared::wire::Response::Status
#![no_std]
#![deny(unsafe_code)]

mod application;
mod board;
mod fixed_memory;
mod serving;
mod supervision;

pub use application::run;
pub use board::Board;
pub use fixed_memory::{MemoryRange, flash, ram};
