//! What a sub-network costs: multiply-accumulates and bytes. The one place
//! where costs are computed; host, ladder, map reader and device all call it.
//!
//! With `T` tokens that reach a block and `U` left after its merging, width `E`, and `h` heads, `q` query and key and `v` value
//! dimensions of each, and `n` neurons kept in a block, where an MLP has `m`
//! input matrices (1 plain, 2 gated):
//!
//! | part | MACs | weights |
//! |---|---|---|
//! | query, key | `T * 2 E h q` | `2 E h q` + bias `2 h q` |
//! | value | `T * E h v` | `E h v` + bias `h v` |
//! | scores, weighted sum | `T^2 h (q + v)` | |
//! | projection | `T h v E` | `h v E` + bias `E` |
//! | MLP in | `U m E n` | `m E n` + bias `m n` |
//! | MLP out | `U n E` | `n E` + bias `E` |
//! | two norms | | `4 E` |
//!
//! The merging itself is left out: its matching is `T^2 q / 4`, of one head.
//!
//! Outside the blocks the shape's own totals are added. Additions, softmax,
//! activations and norms are not multiply-accumulates and are left out, as is
//! usual. Every bias is counted, though some families lack a few (DINOv3 its
//! key bias), and layer scales are not: both are below 0.1 % of the weights.
//!
//! All functions take valid shapes ([`ModelShape::validate`]), whose limits
//! keep the sums below 2^59.

use crate::shape::{MlpKind, ModelShape};
use crate::sub_network::SubNetwork;

/// Multiply-accumulates of one image.
#[must_use]
pub fn macs(shape: &ModelShape, sub_network: &SubNetwork) -> u64 {
    let blocks: u64 = BlockSizes::all(shape, sub_network)
        .map(|block| {
            block.tokens * block.attention_matrices()
                + block.tokens * block.tokens * (block.query_width + block.value_width)
                + block.tokens_left * block.mlp_matrices()
        })
        .sum();
    blocks + shape.outside_macs
}

/// Bytes of the weights that one inference reads.
#[must_use]
pub fn weight_bytes(shape: &ModelShape, sub_network: &SubNetwork) -> u64 {
    let blocks: u64 =
        BlockSizes::all(shape, sub_network).map(|block| block.matrices() + block.biases() + 4 * block.embed_dim).sum();
    blocks * u64::from(shape.bytes_per_weight) + shape.outside_weight_bytes
}

/// Bytes of activations that the blocks move for one image, as an estimate:
/// the output of every linear layer is written once and read once, in the
/// precision of the weights. Attention scores are taken to stay on chip.
#[must_use]
pub fn activation_bytes(shape: &ModelShape, sub_network: &SubNetwork) -> u64 {
    let values: u64 = BlockSizes::all(shape, sub_network)
        .map(|block| {
            block.tokens * (2 * (block.query_width + block.value_width) + block.embed_dim)
                + block.tokens_left * (block.mlp_inputs * block.neurons + block.embed_dim)
        })
        .sum();
    2 * values * u64::from(shape.bytes_per_weight)
}

/// The sizes of one block of a sub-network.
struct BlockSizes {
    /// Of the attention, and of the MLP.
    tokens: u64,
    tokens_left: u64,
    embed_dim: u64,
    /// Of queries, and of keys.
    query_width: u64,
    value_width: u64,
    neurons: u64,
    mlp_inputs: u64,
}

impl BlockSizes {
    fn all(shape: &ModelShape, sub_network: &SubNetwork) -> impl Iterator<Item = Self> {
        let mut left = u64::from(shape.tokens);
        (0..sub_network.blocks()).map(move |block| {
            let tokens = left;
            left = left.saturating_sub(sub_network.merged_tokens(block) as u64);
            Self::new(shape, sub_network, block, tokens, left)
        })
    }

    fn new(shape: &ModelShape, sub_network: &SubNetwork, block: usize, tokens: u64, tokens_left: u64) -> Self {
        let heads = sub_network.heads(block) as u64;
        Self {
            tokens,
            tokens_left,
            embed_dim: u64::from(shape.embed_dim),
            query_width: heads * sub_network.query_dims(block) as u64,
            value_width: heads * sub_network.value_dims(block) as u64,
            neurons: sub_network.neurons(block) as u64,
            mlp_inputs: match shape.mlp {
                MlpKind::Plain => 1,
                MlpKind::Gated => 2,
            },
        }
    }

    /// Entries of all matrices.
    fn matrices(&self) -> u64 {
        self.attention_matrices() + self.mlp_matrices()
    }

    fn attention_matrices(&self) -> u64 {
        self.embed_dim * 2 * (self.query_width + self.value_width)
    }

    fn mlp_matrices(&self) -> u64 {
        self.embed_dim * (self.mlp_inputs + 1) * self.neurons
    }

    fn biases(&self) -> u64 {
        2 * self.query_width + self.value_width + self.mlp_inputs * self.neurons + 2 * self.embed_dim
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::vit_b16;
    use crate::step::{Step, StepKind};

    /// timm says of `vit_base_patch16_224`: 86,567,656 parameters.
    #[test]
    fn dense_vit_b16_costs_what_is_known() {
        let dense = SubNetwork::dense(&vit_b16());
        let attention = 4 * 768 * 768 + 2 * 197 * 768;
        let mlp = 2 * 768 * 3072;
        assert_eq!(macs(&vit_b16(), &dense), 12 * 197 * (attention + mlp) + vit_b16().outside_macs);
        assert_eq!(weight_bytes(&vit_b16(), &dense), 86_567_656 * 2);
    }

    #[test]
    fn a_gated_mlp_has_three_matrices() {
        let plain = ModelShape { blocks: 1, outside_macs: 0, outside_weight_bytes: 0, ..vit_b16() };
        let gated = ModelShape { mlp: MlpKind::Gated, ..plain };
        let dense = SubNetwork::dense(&plain);
        assert_eq!(macs(&gated, &dense) - macs(&plain, &dense), 197 * 768 * 3072);
        assert_eq!(weight_bytes(&gated, &dense) - weight_bytes(&plain, &dense), (768 * 3072 + 3072) * 2);
    }

    #[test]
    fn a_value_dimension_is_a_row_a_column_and_a_part_of_the_weighted_sum() {
        let shape = ModelShape { blocks: 1, ..vit_b16() };
        let dense = SubNetwork::dense(&shape);
        let mut fewer = dense;
        fewer.remove(&shape, Step::new(0, StepKind::ValueDims).expect("block 0")).expect("64 dimensions");
        let removed = 12 * 8;
        assert_eq!(macs(&shape, &dense) - macs(&shape, &fewer), removed * (2 * 197 * 768 + 197 * 197));
        assert_eq!(weight_bytes(&shape, &dense) - weight_bytes(&shape, &fewer), removed * (2 * 768 + 1) * 2);
        assert_eq!(activation_bytes(&shape, &dense) - activation_bytes(&shape, &fewer), 2 * 2 * removed * 197 * 2);
        // A query dimension is two rows, two biases and a part of the scores.
        let mut other = dense;
        other.remove(&shape, Step::new(0, StepKind::QueryDims).expect("block 0")).expect("64 dimensions");
        assert_eq!(macs(&shape, &other), macs(&shape, &fewer));
        assert_eq!(weight_bytes(&shape, &fewer) - weight_bytes(&shape, &other), removed * 2);
    }

    #[test]
    fn merged_tokens_spare_the_mlp_of_their_block_and_all_of_the_next() {
        let shape = ModelShape { blocks: 2, ..vit_b16() };
        let dense = SubNetwork::dense(&shape);
        let merging = dense.with_token_schedule(&shape, &[16, 0]).expect("fewer than half");
        let (attention, mlp) = (4 * 768 * 768, 2 * 768 * 3072);
        let scores = 2 * 768 * (197 * 197 - 181 * 181);
        assert_eq!(macs(&shape, &dense) - macs(&shape, &merging), 16 * (attention + 2 * mlp) + scores);
        assert_eq!(weight_bytes(&shape, &dense), weight_bytes(&shape, &merging));
        assert!(activation_bytes(&shape, &merging) < activation_bytes(&shape, &dense));
    }

    #[test]
    fn an_empty_block_costs_only_what_no_step_removes() {
        let shape = ModelShape { blocks: 1, ..vit_b16() };
        let empty = SubNetwork::from_counts(&shape, &[(0, 0)]).expect("the floors are 0");
        assert_eq!(macs(&shape, &empty), shape.outside_macs);
        assert_eq!(weight_bytes(&shape, &empty), shape.outside_weight_bytes + 6 * 768 * 2);
        assert_eq!(activation_bytes(&shape, &empty), 2 * 2 * 768 * 197 * 2);
    }

    #[test]
    fn the_largest_valid_shape_does_not_overflow() {
        let largest = ModelShape {
            blocks: 64,
            heads: 255,
            head_dim: 257,
            neurons: u16::MAX,
            embed_dim: u16::MAX,
            tokens: u16::MAX,
            mlp: MlpKind::Gated,
            bytes_per_weight: 4,
            outside_macs: crate::shape::MAX_OUTSIDE,
            outside_weight_bytes: crate::shape::MAX_OUTSIDE,
            floor_heads: 0,
            floor_neurons: 0,
        };
        assert_eq!(largest.validate(), Ok(()));
        let dense = SubNetwork::dense(&largest);
        for cost in [macs(&largest, &dense), weight_bytes(&largest, &dense), activation_bytes(&largest, &dense)] {
            assert!(cost < 1 << 59, "{cost}");
        }
    }
}
