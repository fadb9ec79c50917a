//! The integer engine: elastic inference on int8 weights, without heap or operating system.
//!
//! - [`IntegerVit`] runs any sub-network of an
//!   [`IntegerModel`](headroom_shared::IntegerModel). The weights are read
//!   where they lie, in flash on a microcontroller; a sub-network is a prefix
//!   of them, and a switch copies nothing.
//! - All scratch memory is one `arena` of the caller, whose size is
//!   [`arena_bytes`] of the shape.
//! - A pass ([`forward`](self)) quantises each row of activations by itself
//!   (`quantise`) for exact integer products (`product`, `attention`); norms,
//!   softmax and activations (`norm`, `functions`) are f32 operations in one
//!   fixed order (`lanes`). So an inference has the same bits on every
//!   processor, with every instruction set.

mod arena;
mod attention;
#[cfg(feature = "std")]
mod convert;
mod engine;
mod error;
#[cfg(feature = "std")]
mod fast;
mod forward;
mod functions;
mod kept;
mod kernel;
mod lanes;
mod norm;
mod product;
mod quantise;
#[cfg(all(test, feature = "std"))]
mod tests;

pub use arena::{ArenaSizes, FEW_TOKENS, arena_bytes};
#[cfg(feature = "std")]
pub use convert::{ConvertError, IntegerSource};
pub use engine::{IntegerOutput, IntegerVit};
pub use error::IntegerEngineError;
#[cfg(feature = "std")]
pub use fast::PackedIntegerVit;
