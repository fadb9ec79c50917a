//! The elastic CPU engine: one set of packed weights, any sub-network, no copy at a switch.
//!
//! - [`ElasticVit`] holds the weights, packed once (`pack`, `panel`): the first heads and neurons of
//!   a block are a prefix of the storage, and any set of heads is a list of places in it.
//! - [`Workspace`] holds what a forward pass writes. Nothing is allocated after it was made.
//! - A pass goes through `embedding`, each `block` (with `attention`), `pooling` and `head`. Nothing
//!   but the attention looks at how many tokens an image has.
//! - The kernels (`matmul`, `attention`, `norm`, `activation`) are written once, over the sixteen
//!   lanes of `simd`, and compiled for each instruction set; the best one is chosen at run time.
//!
//! One thread runs one pass; threads share the weights, each with a workspace of its own.
#![deny(unsafe_code)]

mod activation;
mod attention;
mod block;
mod correction;
mod elastic_vit;
mod embedding;
mod error;
mod head;
mod matmul;
mod norm;
mod pack;
mod panel;
mod pooling;
mod rotary;
mod selection;
mod simd;
mod sizes;
mod workspace;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use correction::Corrected;
pub use elastic_vit::{ElasticVit, Output, TwoClassifiers};
pub use error::EngineError;
pub use workspace::Workspace;
