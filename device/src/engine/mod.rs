//! The elastic CPU engine: one set of packed weights, any sub-network, no copy at a switch.
//!
//! - [`ElasticVit`] holds the weights, packed once (`pack`, `panel`): the first heads and neurons of
//!   a block are a prefix of the storage, and any set of heads is a list of places in it.
//! - [`Workspace`] holds what a forward pass writes. Nothing is allocated after it was made.
//! - A pass goes through `embedding`, each `block` (`heads_step` with `attention`, then `tokens_step`,
//!   whose threads divide the tokens in `chunks` or, where those are few, the outputs of each layer in
//!   `outputs_step`), `pooling` and `head`. Blocks may merge tokens between attention and MLP (`merge_step`).
//!   Nothing but the attention and the merging looks at how many tokens an image has.
//! - The kernels (`matmul`, `attention`, `norm`, `activation`) are written once, over the sixteen
//!   lanes of `simd`, and compiled for each instruction set; the best one is chosen at run time.
//!
//! A workspace runs one pass at a time, on one thread or on a `team` of them, with the same bits.
//! Passes at the same time share the weights, each with a workspace of its own.
#![deny(unsafe_code)]

mod activation;
mod attention;
mod block;
mod chunks;
mod correction;
mod elastic_vit;
mod embedding;
mod error;
mod head;
mod heads_step;
mod matmul;
mod merge_step;
mod norm;
mod outputs_step;
mod pack;
mod panel;
mod pooling;
mod rotary;
mod selection;
pub(crate) mod shared;
mod simd;
mod sizes;
pub(crate) mod team;
mod token_groups;
mod tokens_step;
mod workspace;

#[cfg(test)]
#[path = "../../tests/random_model/mod.rs"]
pub(crate) mod random_model;
#[cfg(test)]
pub(crate) mod random_parts;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;

pub use crate::corrected::Corrected;
pub use elastic_vit::{ElasticVit, Output, TwoClassifiers};
pub use error::EngineError;
pub(crate) use panel::even_part;
pub use workspace::Workspace;
