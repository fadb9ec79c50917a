//! The structures that one inference runs: read once, checked, and then fixed.

use headroom_shared::KeptStructures;

use super::error::EngineError;
use super::matmul::Segment;
use super::panel::{PANEL, panels};
use super::sizes::Sizes;

/// A copy of the caller's selection: whatever happens to the original, an inference runs this.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    /// Room for all heads of each block, of which the first `head_counts` are set.
    heads: Vec<usize>,
    head_counts: Vec<usize>,
    neurons: Vec<usize>,
    value_dims: Vec<usize>,
    query_dims: Vec<usize>,
    merged_tokens: Vec<usize>,
    correction: Option<usize>,
    most_heads: usize,
    most_neurons: usize,
    head_dim: usize,
    patches: usize,
    /// Whether queries and keys are turned by positions, which needs all their dimensions.
    rotary: bool,
}

impl Selection {
    pub(super) fn new(sizes: &Sizes) -> Self {
        Self {
            heads: vec![0; sizes.depth * sizes.heads],
            head_counts: vec![0; sizes.depth],
            neurons: vec![0; sizes.depth],
            value_dims: vec![0; sizes.depth],
            query_dims: vec![0; sizes.depth],
            merged_tokens: vec![0; sizes.depth],
            correction: None,
            most_heads: sizes.heads,
            most_neurons: sizes.neurons,
            head_dim: sizes.head_dim,
            patches: sizes.patches(),
            rotary: sizes.rotary,
        }
    }

    /// Takes over `kept`, if every block of the model has what it asks for, and the model as many corrections.
    pub(super) fn read(&mut self, kept: &impl KeptStructures, corrections: usize) -> Result<(), EngineError> {
        self.correction = kept.correction();
        if let Some(found) = self.correction.filter(|found| *found >= corrections) {
            return Err(EngineError::Correction { count: corrections, found });
        }
        let mut patches = self.patches;
        for block in 0..self.neurons.len() {
            let (heads, neurons) = (kept.heads(block), kept.neurons(block));
            let too_many = |structure, most, found| EngineError::TooMany { block, structure, most, found };
            if heads > self.most_heads {
                return Err(too_many("heads", self.most_heads, heads));
            }
            if neurons > self.most_neurons {
                return Err(too_many("neurons", self.most_neurons, neurons));
            }
            let value_dims = kept.value_dims(block).unwrap_or(self.head_dim);
            if value_dims > self.head_dim {
                return Err(too_many("value dimensions", self.head_dim, value_dims));
            }
            let query_dims = kept.query_dims(block).unwrap_or(self.head_dim);
            if query_dims > self.head_dim {
                return Err(too_many("query dimensions", self.head_dim, query_dims));
            }
            let fewest = if self.rotary { self.head_dim } else { 1 };
            if query_dims < fewest {
                return Err(EngineError::QueryDims { block, fewest, found: query_dims });
            }
            let mut smallest = 0;
            for place in 0..heads {
                let head = kept.head(block, place);
                if head < smallest || head >= self.most_heads {
                    return Err(EngineError::Head { block, place, head, heads: self.most_heads });
                }
                self.heads[block * self.most_heads + place] = head;
                smallest = head + 1;
            }
            let merged = kept.merged_tokens(block);
            if merged > patches / 2 {
                return Err(EngineError::MergedTokens { block, most: patches / 2, found: merged });
            }
            if merged > 0 && self.rotary {
                return Err(EngineError::MergingWithRotary { block });
            }
            patches -= merged;
            self.merged_tokens[block] = merged;
            self.head_counts[block] = heads;
            self.neurons[block] = neurons;
            self.value_dims[block] = value_dims;
            self.query_dims[block] = query_dims;
        }
        Ok(())
    }

    /// The correction to run with.
    pub(super) fn correction(&self) -> Option<usize> {
        self.correction
    }

    /// Tokens that `block` merges into others.
    pub(super) fn merged_tokens(&self, block: usize) -> usize {
        self.merged_tokens[block]
    }

    /// Whether any block merges tokens.
    pub(super) fn merges(&self) -> bool {
        self.merged_tokens.iter().any(|&merged| merged > 0)
    }

    /// The kept heads of `block`, ascending.
    pub(super) fn heads(&self, block: usize) -> &[usize] {
        &self.heads[block * self.most_heads..][..self.head_counts[block]]
    }

    /// The dimensions that each kept head of `block` keeps.
    pub(super) fn dims(&self, block: usize) -> HeadDims {
        HeadDims { query: self.query_dims[block], value: self.value_dims[block] }
    }

    /// The number of neurons kept in `block`.
    pub(super) fn neurons(&self, block: usize) -> usize {
        self.neurons[block]
    }
}

/// Dimensions of a head that are kept: of its query and key, and of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeadDims {
    pub query: usize,
    pub value: usize,
}

/// The inner dimension of a projection: the kept dimensions of each head's panels of the input meet their rows of the
/// weight.
pub(super) fn head_segments(heads: &[usize], head_dim: usize, value_dims: usize, segments: &mut Vec<Segment>) {
    let kept = panels(value_dims);
    segments.clear();
    for (place, &head) in heads.iter().enumerate() {
        let next = Segment { a_panel: place * kept, b_row: head * head_dim, length: value_dims };
        match segments.last_mut() {
            Some(last) if value_dims.is_multiple_of(PANEL) && last.b_row + last.length == next.b_row => {
                last.length += value_dims;
            }
            _ => segments.push(next),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_heads_of_whole_panels_are_one_segment() {
        let mut segments = Vec::new();
        head_segments(&[0, 1, 3], 32, 32, &mut segments);
        let joined = Segment { a_panel: 0, b_row: 0, length: 64 };
        assert_eq!(segments, [joined, Segment { a_panel: 4, b_row: 96, length: 32 }]);
        head_segments(&[0, 1], 24, 24, &mut segments);
        let apart = Segment { a_panel: 2, b_row: 24, length: 24 };
        assert_eq!(segments, [Segment::prefix(24), apart]);
        head_segments(&[0, 1], 32, 16, &mut segments);
        let fewer = Segment { a_panel: 1, b_row: 32, length: 16 };
        assert_eq!(segments, [Segment::prefix(16), fewer], "fewer dimensions than the head has leave gaps");
    }
}
