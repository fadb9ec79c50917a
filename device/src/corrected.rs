//! A sub-network and the correction that it runs with.

use headroom_shared::KeptStructures;

/// Structures that run with a correction of the model.
#[derive(Clone, Copy, Debug)]
pub struct Corrected<'a, K> {
    pub kept: &'a K,
    /// The number of the correction of the model, in the order of its groups; `None` runs the original weights.
    pub correction: Option<usize>,
}

impl<K: KeptStructures> KeptStructures for Corrected<'_, K> {
    fn heads(&self, block: usize) -> usize {
        self.kept.heads(block)
    }

    fn head(&self, block: usize, index: usize) -> usize {
        self.kept.head(block, index)
    }

    fn neurons(&self, block: usize) -> usize {
        self.kept.neurons(block)
    }

    fn value_dims(&self, block: usize) -> Option<usize> {
        self.kept.value_dims(block)
    }

    fn query_dims(&self, block: usize) -> Option<usize> {
        self.kept.query_dims(block)
    }

    fn merged_tokens(&self, block: usize) -> usize {
        self.kept.merged_tokens(block)
    }

    fn correction(&self) -> Option<usize> {
        self.correction
    }
}
