//! The integer engine: elastic inference on int8 weights, without heap or operating system.
//!
//! - [`IntegerVit`] runs any sub-network of an
//!   [`IntegerModel`](headroom_shared::IntegerModel). The weights are read
//!   where they lie, in flash on a microcontroller; a sub-network is a prefix
//!   of them, and a switch copies nothing.
//! - All scratch memory is one `arena` of the caller, whose size is
//!   [`arena_bytes`] of the shape.
//! - With feature `std`, `PackedIntegerVit` packs the weights once for AVX-512 VNNI, AVX2 or NEON, shares them among
//!   passes and a pass among threads (`fast`), `frames` makes frames of an input for the f32 engine (`pixels`), and
//!   `IntegerSource` makes the parts of an integer model from one in f32 (`convert`).
//! - A pass (`forward`) quantises each row of activations by itself
//!   (`quantise`) for exact integer products (`product`, `attention`); norms,
//!   softmax and activations (`norm`, `functions`), rotary positions
//!   (`rotary`) and the merging of similar tokens (`merge`) are f32 operations
//!   in one fixed order (`lanes`). So an inference has the same bits on every
//!   processor, with every instruction set.
//!
//! It runs every family that the f32 engine runs, with frames of three channels: learned and rotary positions, plain
//! and gated MLPs, and every pooling, that by attention too.
//!
//! # Why these numbers
//! Activations have a scale and a zero for each token, found as they are
//! computed: no calibration, and no rung needs scales of its own. On 500 images
//! of CIFAR-10, embeddings in int8 and f32 have a mean cosine of 0.99995, 0.99992,
//! 0.99987 and 0.99981 at 100, 75, 50 and 30 % of the MACs of `vit_cifar10_xs`, and
//! of 0.99997, 0.99995, 0.99994 and 0.99992 for `vit_cifar10_s`.

mod arena;
mod attention;
#[cfg(feature = "std")]
mod convert;
mod ending;
mod engine;
mod error;
#[cfg(feature = "std")]
mod fast;
mod forward;
mod functions;
mod kept;
mod kernel;
mod lanes;
mod merge;
mod norm;
#[cfg(feature = "std")]
mod pixels;
mod product;
mod quantise;
mod rotary;
mod single_product;
#[cfg(all(test, feature = "std"))]
mod tests;

pub use arena::{ArenaSizes, FEW_TOKENS, arena_bytes};
#[cfg(feature = "std")]
pub use convert::{ConvertError, IntegerSource};
pub use engine::{IntegerOutput, IntegerVit};
pub use error::IntegerEngineError;
#[cfg(feature = "std")]
pub use fast::{IntegerWorkspace, PackedIntegerVit};
pub use kept::check as check_kept;
#[cfg(feature = "std")]
pub use pixels::{frames, write_frames};
pub use single_product::SingleProduct;
