//! What is left of a model after the first steps of its ranking.

use crate::shape::{MAX_BLOCKS, ModelShape};

/// Which structures of each block an executor runs.
///
/// A [`SubNetwork`] keeps prefixes of the permuted weights; the host's search
/// keeps any set of heads, because the order of heads is what it looks for.
pub trait KeptStructures {
    /// The number of heads kept in `block`.
    fn heads(&self, block: usize) -> usize;

    /// The position in the weights of the `index`-th kept head of `block`,
    /// ascending in `index`.
    fn head(&self, block: usize, index: usize) -> usize;

    /// The number of neurons kept in `block`: always the first ones.
    fn neurons(&self, block: usize) -> usize;
}

/// Heads and neurons kept in each block; both are prefixes of the permuted weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubNetwork {
    blocks: u8,
    heads: [u8; MAX_BLOCKS],
    neurons: [u16; MAX_BLOCKS],
}

impl SubNetwork {
    /// All heads and neurons of `shape`.
    #[must_use]
    pub fn dense(shape: &ModelShape) -> Self {
        Self { blocks: shape.blocks, heads: [shape.heads; MAX_BLOCKS], neurons: [shape.neurons; MAX_BLOCKS] }
    }

    /// The number of blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        usize::from(self.blocks)
    }

    /// Heads kept in `block`.
    #[must_use]
    pub fn heads(&self, block: usize) -> usize {
        usize::from(self.heads[block])
    }

    /// Neurons kept in `block`.
    #[must_use]
    pub fn neurons(&self, block: usize) -> usize {
        usize::from(self.neurons[block])
    }
}

impl KeptStructures for SubNetwork {
    fn heads(&self, block: usize) -> usize {
        SubNetwork::heads(self, block)
    }

    fn head(&self, _block: usize, index: usize) -> usize {
        index
    }

    fn neurons(&self, block: usize) -> usize {
        SubNetwork::neurons(self, block)
    }
}
