//! Local scores, grouped into what one step can remove.

use headroom_shared::ModelShape;
use headroom_shared::shape::{DIMENSION_QUANTUM, NEURON_QUANTUM};

use crate::ranking::{RankingError, Sparsity};

/// The quanta of every block with their local scores, before any factor.
#[derive(Clone, Debug)]
pub struct Quanta {
    shape: ModelShape,
    blocks: Vec<BlockQuanta>,
}

/// The quanta of one block.
#[derive(Clone, Debug)]
pub(super) struct BlockQuanta {
    /// New position to old index, by falling local score.
    pub(super) neuron_order: Vec<u16>,
    /// Mean local score of each group that the floor does not protect, in order of removal.
    pub(super) groups: Vec<f64>,
    /// Local score of each head, in the order of the weights.
    pub(super) heads: Vec<f64>,
    /// Mean local score of the value dimensions of each group that can go, in order of removal; none where they all
    /// stay.
    pub(super) value_groups: Vec<f64>,
    /// The same of query dimensions.
    pub(super) query_groups: Vec<f64>,
}

impl Quanta {
    /// Groups local scores: `neurons[block][neuron]` and `heads[block][head]`, in
    /// the order of the weights. The floors are those of `shape`.
    ///
    /// # Errors
    /// If the shape is not valid, a list does not fit it, or a score is NaN,
    /// infinite or negative.
    pub fn new(shape: &ModelShape, neurons: &[Vec<f64>], heads: &[Vec<f64>]) -> Result<Self, RankingError> {
        shape.validate()?;
        check_scores("neuron", neurons, usize::from(shape.blocks), usize::from(shape.neurons))?;
        check_scores("head", heads, usize::from(shape.blocks), usize::from(shape.heads))?;
        let removable = removable_groups(shape);
        let blocks = neurons.iter().zip(heads).map(|(neurons, heads)| {
            let neuron_order = by_falling_score(neurons);
            let mut groups: Vec<f64> = neuron_order
                .chunks(usize::from(NEURON_QUANTUM))
                .map(|group| group.iter().map(|&old| neurons[usize::from(old)]).sum::<f64>() / group.len() as f64)
                .collect();
            groups.reverse();
            groups.truncate(removable);
            BlockQuanta {
                neuron_order,
                groups,
                heads: heads.clone(),
                value_groups: Vec::new(),
                query_groups: Vec::new(),
            }
        });
        Ok(Self { shape: *shape, blocks: blocks.collect() })
    }

    /// The same, with value dimensions as quanta of their own: `scores[block]` head after head, in each of which they
    /// fall.
    ///
    /// # Errors
    /// If a list does not fit the shape, or a score is NaN, infinite or negative.
    pub fn with_value_dims(mut self, scores: &[Vec<f64>]) -> Result<Self, RankingError> {
        let groups = self.dimension_groups("value dimension", scores)?;
        self.blocks.iter_mut().zip(groups).for_each(|(block, groups)| block.value_groups = groups);
        Ok(self)
    }

    /// The same of query dimensions.
    ///
    /// # Errors
    /// As [`Self::with_value_dims`].
    pub fn with_query_dims(mut self, scores: &[Vec<f64>]) -> Result<Self, RankingError> {
        let groups = self.dimension_groups("query dimension", scores)?;
        self.blocks.iter_mut().zip(groups).for_each(|(block, groups)| block.query_groups = groups);
        Ok(self)
    }

    /// For each block the mean scores of all groups but the first, which stays, in order of removal.
    fn dimension_groups(&self, kind: &str, scores: &[Vec<f64>]) -> Result<Vec<Vec<f64>>, RankingError> {
        let (heads, dims) = (usize::from(self.shape.heads), usize::from(self.shape.head_dim));
        check_scores(kind, scores, usize::from(self.shape.blocks), heads * dims)?;
        let of_block = |scores: &Vec<f64>| {
            debug_assert!(scores.chunks(dims).all(|head| head.is_sorted_by(|a, b| a >= b)), "dimensions fall");
            let groups = (0..dims).step_by(usize::from(DIMENSION_QUANTUM)).skip(1).map(|first| {
                let last = (first + usize::from(DIMENSION_QUANTUM)).min(dims);
                let sum = scores.chunks(dims).map(|head| head[first..last].iter().sum::<f64>()).sum::<f64>();
                sum / (heads * (last - first)) as f64
            });
            groups.collect::<Vec<f64>>().into_iter().rev().collect()
        };
        Ok(scores.iter().map(of_block).collect())
    }

    /// The shape, with its floors.
    #[must_use]
    pub fn shape(&self) -> &ModelShape {
        &self.shape
    }

    /// For each block the order of its neurons, new position to old index, by
    /// falling local score; equal scores keep their order.
    pub fn neuron_orders(&self) -> impl ExactSizeIterator<Item = &[u16]> {
        self.blocks.iter().map(|block| block.neuron_order.as_slice())
    }

    /// The largest shares that the floors allow to remove.
    #[must_use]
    pub fn limit(&self) -> Sparsity {
        let neurons = self.shape.neurons - neurons_after(&self.shape, removable_groups(&self.shape));
        let heads = self.shape.heads - self.shape.floor_heads;
        let share = |removable: u16, all: u16| f64::from(removable) / f64::from(all);
        Sparsity {
            neurons: share(neurons, self.shape.neurons),
            heads: share(u16::from(heads), u16::from(self.shape.heads)),
        }
    }

    /// The local scores of the removable groups and of all heads, block by block.
    pub(crate) fn scores(&self) -> impl Iterator<Item = f64> {
        self.blocks.iter().flat_map(|block| block.groups.iter().chain(&block.heads).copied())
    }

    pub(super) fn blocks(&self) -> &[BlockQuanta] {
        &self.blocks
    }
}

/// Neurons that a block keeps after losing `groups` groups.
pub(super) fn neurons_after(shape: &ModelShape, groups: usize) -> u16 {
    let kept = usize::from(shape.neurons.div_ceil(NEURON_QUANTUM)) - groups;
    u16::try_from(kept * usize::from(NEURON_QUANTUM)).unwrap_or(u16::MAX).min(shape.neurons)
}

/// Dimensions that a head keeps after losing `groups` groups.
pub(super) fn dims_after(shape: &ModelShape, groups: usize) -> u16 {
    let kept = usize::from(shape.head_dim.div_ceil(DIMENSION_QUANTUM)) - groups;
    u16::try_from(kept * usize::from(DIMENSION_QUANTUM)).unwrap_or(u16::MAX).min(shape.head_dim)
}

/// Indices by falling score; equal scores keep their order.
pub(super) fn by_falling_score(scores: &[f64]) -> Vec<u16> {
    let mut order: Vec<u16> = (0..=u16::MAX).take(scores.len()).collect();
    order.sort_by(|&a, &b| scores[usize::from(b)].total_cmp(&scores[usize::from(a)]));
    order
}

/// Groups of a block that are wholly above the floor.
fn removable_groups(shape: &ModelShape) -> usize {
    let groups = shape.neurons.div_ceil(NEURON_QUANTUM);
    usize::from(groups - shape.floor_neurons.div_ceil(NEURON_QUANTUM))
}

fn check_scores(kind: &str, scores: &[Vec<f64>], blocks: usize, each: usize) -> Result<(), RankingError> {
    if scores.len() != blocks {
        return Err(RankingError::Length {
            what: format!("blocks of {kind} scores"),
            expected: blocks,
            found: scores.len(),
        });
    }
    for (block, scores) in scores.iter().enumerate() {
        if scores.len() != each {
            let what = format!("{kind} scores of block {block}");
            return Err(RankingError::Length { what, expected: each, found: scores.len() });
        }
        if let Some(index) = scores.iter().position(|score| !score.is_finite() || *score < 0.0) {
            return Err(RankingError::Score { what: format!("{kind} {index} of block {block}"), value: scores[index] });
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use headroom_shared::MlpKind;

    use super::*;

    /// A small model without floors.
    pub(crate) fn shape(blocks: u8, heads: u8, neurons: u16) -> ModelShape {
        ModelShape {
            blocks,
            heads,
            head_dim: 4,
            neurons,
            embed_dim: 16,
            tokens: 5,
            mlp: MlpKind::Plain,
            bytes_per_weight: 4,
            outside_macs: 0,
            outside_weight_bytes: 0,
            floor_heads: 0,
            floor_neurons: 0,
        }
    }

    #[test]
    fn the_smaller_group_at_the_end_goes_first_and_a_floor_keeps_whole_groups() {
        let shape = ModelShape { floor_neurons: 3, ..shape(1, 1, 20) };
        let scores: Vec<f64> = (0..20).map(f64::from).collect();
        let quanta = Quanta::new(&shape, &[scores], &[vec![1.0]]).expect("valid");
        let block = &quanta.blocks()[0];
        assert_eq!(block.neuron_order[..3], [19, 18, 17]);
        assert_eq!(block.groups, [1.5, 7.5]);
        assert_eq!([0, 1, 2].map(|groups| neurons_after(&shape, groups)), [20, 16, 8]);
        assert_eq!(quanta.limit(), Sparsity { neurons: 12.0 / 20.0, heads: 1.0 });
    }

    #[test]
    fn refuses_scores_that_do_not_fit_or_are_no_scores() {
        let tiny = shape(2, 1, 8);
        let refused = |neurons: &[Vec<f64>]| {
            Quanta::new(&tiny, neurons, &[vec![1.0], vec![1.0]]).expect_err("refused").to_string()
        };
        assert_eq!(refused(&[vec![1.0; 8]]), "blocks of neuron scores: expected 2, found 1");
        assert_eq!(refused(&[vec![1.0; 8], vec![1.0; 7]]), "neuron scores of block 1: expected 8, found 7");
        let mut bad = vec![1.0; 8];
        bad[3] = f64::NAN;
        assert!(refused(&[vec![1.0; 8], bad]).starts_with("the importance of neuron 3 of block 1 is NaN"));
    }
}
