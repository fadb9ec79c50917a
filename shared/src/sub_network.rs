//! What is left of a model after the first steps of its ranking.

use core::fmt;

use crate::shape::{DIMENSION_QUANTUM, MAX_BLOCKS, ModelShape, NEURON_QUANTUM};
use crate::step::{Step, StepKind};

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

    /// The number of value dimensions that each kept head of `block` keeps:
    /// always the first ones. `None` keeps all.
    fn value_dims(&self, block: usize) -> Option<usize> {
        let _ = block;
        None
    }

    /// The number of query and key dimensions that each kept head of `block`
    /// keeps: always the first ones. `None` keeps all.
    fn query_dims(&self, block: usize) -> Option<usize> {
        let _ = block;
        None
    }

    /// The number of tokens that `block` merges into others between its
    /// attention and its MLP (ToMe, arXiv 2210.09461).
    fn merged_tokens(&self, block: usize) -> usize {
        let _ = block;
        0
    }

    /// Which of the model's corrections make up for what is not kept; `None`
    /// runs the original weights.
    fn correction(&self) -> Option<usize> {
        None
    }
}

/// Why a step cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    #[error("block {block} of a model with {blocks} blocks")]
    BlockOutOfRange { block: u8, blocks: u8 },
    #[error("block {block} would keep fewer heads than its floor of {floor}")]
    HeadsBelowFloor { block: u8, floor: u8 },
    #[error("block {block} would keep fewer neurons than its floor of {floor}")]
    NeuronsBelowFloor { block: u8, floor: u16 },
    #[error("block {block} would keep no value dimension")]
    NoValueDims { block: u8 },
    #[error("block {block} would keep no query dimension")]
    NoQueryDims { block: u8 },
}

/// A ranking that cannot be replayed: which step, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("step {at} of the ranking: {reason}")]
pub struct ReplayError {
    /// Index of the step, from 0.
    pub at: u32,
    pub reason: StepError,
}

/// Counts that a shape does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CountsError {
    #[error("counts of {found} blocks, expected {expected}")]
    Blocks { expected: usize, found: usize },
    #[error("block {block}: {found} heads, expected {fewest} to {most}")]
    Heads { block: usize, fewest: usize, most: usize, found: usize },
    #[error("block {block}: {found} neurons, expected {fewest} to {most}")]
    Neurons { block: usize, fewest: usize, most: usize, found: usize },
}

/// A token schedule that a shape does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenScheduleError {
    #[error("a token schedule of {found} blocks, expected {expected}")]
    Blocks { expected: u8, found: u32 },
    #[error("block {block} merges {found} of its {tokens} tokens, at most half can be")]
    TooMany { block: u8, tokens: u16, found: u8 },
}

/// Heads, neurons and dimensions of heads kept in each block, all prefixes of the permuted weights, and the tokens that
/// each block merges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubNetwork {
    blocks: u8,
    heads: [u8; MAX_BLOCKS],
    neurons: [u16; MAX_BLOCKS],
    value_dims: [u16; MAX_BLOCKS],
    query_dims: [u16; MAX_BLOCKS],
    merged_tokens: [u8; MAX_BLOCKS],
}

impl SubNetwork {
    /// Everything of `shape`, which must be valid
    /// ([`ModelShape::validate`]).
    #[must_use]
    pub fn dense(shape: &ModelShape) -> Self {
        Self {
            blocks: shape.blocks,
            heads: [shape.heads; MAX_BLOCKS],
            neurons: [shape.neurons; MAX_BLOCKS],
            value_dims: [shape.head_dim; MAX_BLOCKS],
            query_dims: [shape.head_dim; MAX_BLOCKS],
            merged_tokens: [0; MAX_BLOCKS],
        }
    }

    /// What is left of `shape` after the first removals of a ranking, given as
    /// the step bytes of a structure map. Time O(steps), no heap.
    ///
    /// # Errors
    /// If a byte names a block that the shape does not have, or would undercut a
    /// floor.
    pub fn after(shape: &ModelShape, steps: &[u8]) -> Result<Self, ReplayError> {
        let mut sub_network = Self::dense(shape);
        for (at, &byte) in steps.iter().enumerate() {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            sub_network.remove(shape, Step::from_byte(byte)).map_err(|reason| ReplayError { at, reason })?;
        }
        Ok(sub_network)
    }

    /// A sub-network of the given `(heads, neurons)` of each block, with all
    /// dimensions of heads. Any counts from the floors to the dense sizes are allowed,
    /// multiples of 8 or not.
    ///
    /// # Errors
    /// If the number of blocks differs from the shape's or a count is out of range.
    pub fn from_counts(shape: &ModelShape, counts: &[(usize, usize)]) -> Result<Self, CountsError> {
        let mut sub_network = Self::dense(shape);
        if counts.len() != sub_network.blocks() {
            return Err(CountsError::Blocks { expected: sub_network.blocks(), found: counts.len() });
        }
        for (block, &(heads, neurons)) in counts.iter().enumerate() {
            let (fewest, most) = (usize::from(shape.floor_heads), usize::from(shape.heads));
            if !(fewest..=most).contains(&heads) {
                return Err(CountsError::Heads { block, fewest, most, found: heads });
            }
            sub_network.heads[block] = heads as u8;
            let (fewest, most) = (usize::from(shape.floor_neurons), usize::from(shape.neurons));
            if !(fewest..=most).contains(&neurons) {
                return Err(CountsError::Neurons { block, fewest, most, found: neurons });
            }
            sub_network.neurons[block] = neurons as u16;
        }
        Ok(sub_network)
    }

    /// The same structures, where each block merges as many tokens as `schedule`
    /// says. Prefix tokens, which a shape does not know, are never merged: an
    /// engine may allow less than this does.
    ///
    /// # Errors
    /// If there is not one number for each block, or a block would merge more
    /// than half of the tokens that reach it.
    pub fn with_token_schedule(mut self, shape: &ModelShape, schedule: &[u8]) -> Result<Self, TokenScheduleError> {
        if schedule.len() != self.blocks() {
            let found = u32::try_from(schedule.len()).unwrap_or(u32::MAX);
            return Err(TokenScheduleError::Blocks { expected: self.blocks, found });
        }
        let mut tokens = shape.tokens;
        for (block, &merged) in schedule.iter().enumerate() {
            if u16::from(merged) > tokens / 2 {
                return Err(TokenScheduleError::TooMany { block: block as u8, tokens, found: merged });
            }
            tokens -= u16::from(merged);
            self.merged_tokens[block] = merged;
        }
        Ok(self)
    }

    /// Removes one more quantum.
    ///
    /// # Errors
    /// If the shape has no such block or the count would fall below its floor;
    /// the sub-network is then unchanged.
    pub fn remove(&mut self, shape: &ModelShape, step: Step) -> Result<(), StepError> {
        let block = step.block();
        if block >= self.blocks() {
            return Err(StepError::BlockOutOfRange { block: block as u8, blocks: self.blocks });
        }
        match step.kind() {
            StepKind::Head => {
                if self.heads[block] <= shape.floor_heads {
                    return Err(StepError::HeadsBelowFloor { block: block as u8, floor: shape.floor_heads });
                }
                self.heads[block] -= 1;
            }
            StepKind::Neurons => {
                let before = self.neurons[block];
                let after = before.saturating_sub(1) / NEURON_QUANTUM * NEURON_QUANTUM;
                if before == 0 || after < shape.floor_neurons {
                    return Err(StepError::NeuronsBelowFloor { block: block as u8, floor: shape.floor_neurons });
                }
                self.neurons[block] = after;
            }
            StepKind::ValueDims => {
                self.value_dims[block] =
                    fewer_dims(self.value_dims[block]).ok_or(StepError::NoValueDims { block: block as u8 })?;
            }
            StepKind::QueryDims => {
                self.query_dims[block] =
                    fewer_dims(self.query_dims[block]).ok_or(StepError::NoQueryDims { block: block as u8 })?;
            }
        }
        Ok(())
    }

    /// `(heads, neurons)` of each block.
    pub fn counts(&self) -> impl ExactSizeIterator<Item = (usize, usize)> + '_ {
        (0..self.blocks()).map(|block| (self.heads(block), self.neurons(block)))
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

    /// Value dimensions kept in each head of `block`.
    #[must_use]
    pub fn value_dims(&self, block: usize) -> usize {
        usize::from(self.value_dims[block])
    }

    /// Tokens that `block` merges into others.
    #[must_use]
    pub fn merged_tokens(&self, block: usize) -> usize {
        usize::from(self.merged_tokens[block])
    }

    /// How many tokens each block merges.
    #[must_use]
    pub fn token_schedule(&self) -> &[u8] {
        &self.merged_tokens[..self.blocks()]
    }

    /// Query and key dimensions kept in each head of `block`.
    #[must_use]
    pub fn query_dims(&self, block: usize) -> usize {
        usize::from(self.query_dims[block])
    }
}

/// What is left of so many dimensions without their last group; `None` if nothing is.
fn fewer_dims(dims: u16) -> Option<u16> {
    let after = dims.saturating_sub(1) / DIMENSION_QUANTUM * DIMENSION_QUANTUM;
    (after > 0).then_some(after)
}

/// `12x64/64+3072 11x48/56+3064-8 ...`: heads x query/value dimensions + neurons of each block - tokens merged.
impl fmt::Display for SubNetwork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (block, (heads, neurons)) in self.counts().enumerate() {
            let separator = if block == 0 { "" } else { " " };
            let (queries, values) = (self.query_dims(block), self.value_dims(block));
            write!(formatter, "{separator}{heads}x{queries}/{values}+{neurons}")?;
            if self.merged_tokens[block] > 0 {
                write!(formatter, "-{}", self.merged_tokens[block])?;
            }
        }
        Ok(())
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

    fn value_dims(&self, block: usize) -> Option<usize> {
        Some(SubNetwork::value_dims(self, block))
    }

    fn query_dims(&self, block: usize) -> Option<usize> {
        Some(SubNetwork::query_dims(self, block))
    }

    fn merged_tokens(&self, block: usize) -> usize {
        SubNetwork::merged_tokens(self, block)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;
    use crate::fixtures::vit_b16;

    fn tiny() -> ModelShape {
        ModelShape { blocks: 2, heads: 3, neurons: 20, floor_heads: 1, floor_neurons: 8, ..vit_b16() }
    }

    fn byte(block: usize, kind: StepKind) -> u8 {
        Step::new(block, kind).expect("a block below 64").to_byte()
    }

    #[test]
    fn the_group_at_the_end_is_removed_first_and_may_be_smaller() {
        let neurons = byte(0, StepKind::Neurons);
        let kept = |steps: &[u8]| SubNetwork::after(&tiny(), steps).map(|left| left.neurons(0));
        assert_eq!(kept(&[]), Ok(20));
        assert_eq!(kept(&[neurons]), Ok(16));
        assert_eq!(kept(&[neurons; 2]), Ok(8));
        let reason = StepError::NeuronsBelowFloor { block: 0, floor: 8 };
        assert_eq!(kept(&[neurons; 3]), Err(ReplayError { at: 2, reason }));
    }

    #[test]
    fn a_step_changes_one_count_of_one_block() {
        let left = SubNetwork::after(&tiny(), &[byte(1, StepKind::Head), byte(0, StepKind::Neurons)]).expect("valid");
        assert_eq!(left.to_string(), "3x64/64+16 2x64/64+20");
        assert_eq!(SubNetwork::from_counts(&tiny(), &[(3, 16), (2, 20)]), Ok(left));
    }

    #[test]
    fn every_head_of_a_block_loses_dimensions_but_not_the_last_group() {
        let shape = ModelShape { head_dim: 20, ..tiny() };
        let values = byte(1, StepKind::ValueDims);
        let kept = |steps: &[u8]| SubNetwork::after(&shape, steps).map(|left| (left.value_dims(0), left.value_dims(1)));
        assert_eq!(kept(&[values]), Ok((20, 16)));
        assert_eq!(kept(&[values, byte(1, StepKind::Head), values]), Ok((20, 8)));
        assert_eq!(kept(&[values; 3]), Err(ReplayError { at: 2, reason: StepError::NoValueDims { block: 1 } }));
        let queries = byte(0, StepKind::QueryDims);
        let left = SubNetwork::after(&shape, &[queries, values, queries]).expect("three groups each");
        assert_eq!((left.query_dims(0), left.value_dims(0), left.query_dims(1), left.value_dims(1)), (8, 20, 20, 16));
        assert_eq!(kept(&[queries; 3]), Err(ReplayError { at: 2, reason: StepError::NoQueryDims { block: 0 } }));
        assert_eq!(shape.removable_dimension_steps(), 2 * 2);
    }

    #[test]
    fn refuses_what_the_shape_does_not_have() {
        let refused = |steps: &[u8]| SubNetwork::after(&tiny(), steps).map_err(|error| error.reason);
        assert_eq!(refused(&[byte(2, StepKind::Head)]), Err(StepError::BlockOutOfRange { block: 2, blocks: 2 }));
        assert_eq!(refused(&[byte(0, StepKind::Head); 3]), Err(StepError::HeadsBelowFloor { block: 0, floor: 1 }));
    }

    #[test]
    fn refuses_counts_out_of_range() {
        let refused = |counts: &[(usize, usize)]| SubNetwork::from_counts(&tiny(), counts);
        assert_eq!(refused(&[(3, 20)]), Err(CountsError::Blocks { expected: 2, found: 1 }));
        assert_eq!(refused(&[(3, 20), (0, 20)]), Err(CountsError::Heads { block: 1, fewest: 1, most: 3, found: 0 }));
        assert_eq!(
            refused(&[(3, 21), (3, 20)]),
            Err(CountsError::Neurons { block: 0, fewest: 8, most: 20, found: 21 })
        );
    }
}
