//! The candle executor of a model description: gradients on the CPU, everything on CUDA, in f32, bf16 or f16.
//!
//! The CPU inference of the product is `headroom_device::engine`; both read the same
//! [`Description`](headroom_device::model::Description). This one also runs backward, by hand and
//! block by block, because the importance of structures needs the gradient at a few layers only,
//! and a general autograd forms the gradients of all weights.

pub(crate) mod batches;
mod block;
mod branch;
mod correction;
pub mod device;
mod embedding;
pub mod error;
#[cfg(feature = "cuda")]
mod gpu;
mod gradient;
mod linear;
mod load;
pub mod memory;
mod model;
pub(crate) mod operation;
mod pooling;
pub(crate) mod several;
mod structure_weights;
mod sub_network;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod upload;

pub use block::{BlockGradient, LayerGradient, MaskGradient};
pub use branch::{Branch, CutBranch, Kept, KeptInputs, Stream};
pub use device::{ChosenDevices, DeviceChoice, DeviceError, GpuPrecision, UnknownDevices, choose};
pub use error::ExecutorError;
pub use gradient::Traced;
pub use model::{CandleVit, Forward};
pub use structure_weights::SquaredNorms;
pub use sub_network::CutVit;
