//! A sub-network of weights whose heads are not sorted yet.

use headroom_shared::{KeptStructures, ModelShape};
use serde::{Deserialize, Serialize};

/// What one candidate of the search keeps: any set of heads, the first neurons and dimensions of heads.
///
/// A factor never changes the order of neurons inside a block, so with neurons
/// sorted once, by falling local importance, a count says which are kept; heads
/// have a factor each, so a candidate names them. No weight is copied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Selection {
    heads: Vec<Vec<u16>>,
    neurons: Vec<u16>,
    value_dims: Vec<u16>,
    query_dims: Vec<u16>,
}

impl Selection {
    /// Everything that `shape` has.
    #[must_use]
    pub fn dense(shape: &ModelShape) -> Self {
        let blocks = usize::from(shape.blocks);
        Self {
            heads: vec![(0..u16::from(shape.heads)).collect(); blocks],
            neurons: vec![shape.neurons; blocks],
            value_dims: vec![shape.head_dim; blocks],
            query_dims: vec![shape.head_dim; blocks],
        }
    }

    /// For each block, the kept heads in ascending order and the numbers of kept neurons, value and query dimensions.
    pub(super) fn new(heads: Vec<Vec<u16>>, neurons: Vec<u16>, value_dims: Vec<u16>, query_dims: Vec<u16>) -> Self {
        debug_assert!(heads.iter().all(|kept| kept.is_sorted()), "kept heads ascend");
        Self { heads, neurons, value_dims, query_dims }
    }

    /// The number of blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.neurons.len()
    }

    /// The heads that `block` keeps, ascending, in the order of the weights.
    #[must_use]
    pub fn kept_heads(&self, block: usize) -> &[u16] {
        &self.heads[block]
    }
}

impl KeptStructures for Selection {
    fn heads(&self, block: usize) -> usize {
        self.heads[block].len()
    }

    fn head(&self, block: usize, index: usize) -> usize {
        usize::from(self.heads[block][index])
    }

    fn neurons(&self, block: usize) -> usize {
        usize::from(self.neurons[block])
    }

    fn value_dims(&self, block: usize) -> Option<usize> {
        Some(usize::from(self.value_dims[block]))
    }

    fn query_dims(&self, block: usize) -> Option<usize> {
        Some(usize::from(self.query_dims[block]))
    }
}
