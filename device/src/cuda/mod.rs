//! The elastic engine on NVIDIA GPUs.
//!
//! - A [`plan`] is a table: which matrix products and kernels run in which order, on which places of
//!   which buffers, for one rung. Building it needs no GPU, and the tests run the tables on the CPU.
//! - [`weights`] are loaded once, in f16 (what is added or scaled stays f32). A sub-network is
//!   pointers, leading dimensions and sizes into them.
//! - `kernels/` has the sources of the kernels. What a thread does is plain C in
//!   `kernels/functions.h`, which NVRTC compiles for the GPU found and the tests for this machine.
//!   Attention is one kernel (`kernels/fused_attention.h`) where the GPU's tensor cores can do it, and
//!   two products with a softmax between them elsewhere; the plan decides.
//! - `executor` (feature `cuda`) records each rung's table into a CUDA graph at load, so that a switch
//!   is the choice of a graph.
//!
//! A rung's token schedule is known at load, so that the number of tokens of each block is a constant of
//! its table, and merging needs no word from the CPU. What the CPU engine runs runs here, but for rungs
//! that keep other heads than the first ([`Unsupported`]).

mod buffer;
mod capability;
mod kernel;
pub mod plan;
mod unsupported;
pub mod weights;

#[cfg(feature = "cuda")]
mod accelerator;
#[cfg(feature = "cuda")]
mod error;
#[cfg(feature = "cuda")]
mod executor;
#[cfg(feature = "cuda")]
mod libraries;
#[cfg(test)]
mod tests;

pub use buffer::{Buffer, BufferSizes, Place, Storage};
pub use capability::ComputeCapability;
pub use kernel::{Function, Kernel, Launch};
pub use unsupported::Unsupported;

#[cfg(all(feature = "cuda", feature = "cli"))]
pub(crate) use accelerator::open;
#[cfg(feature = "cuda")]
pub use error::CudaError;
#[cfg(feature = "cuda")]
pub use executor::{CudaOutput, CudaVit};
