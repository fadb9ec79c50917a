//! What a sub-network costs: multiply-accumulates and bytes. The one place
//! where costs are computed; host, ladder, map reader and device all call it.
//!
//! With `T` tokens, width `E`, head dimension `D`, and `h` heads and `n`
//! neurons kept in a block, where an MLP has `m` input matrices (1 plain,
//! 2 gated):
//!
//! | part | MACs | weights |
//! |---|---|---|
//! | query, key, value | `T * 3 E h D` | `3 E h D` + bias `3 h D` |
//! | scores, weighted sum | `2 T^2 h D` | |
//! | projection | `T h D E` | `h D E` + bias `E` |
//! | MLP in | `T m E n` | `m E n` + bias `m n` |
//! | MLP out | `T n E` | `n E` + bias `E` |
//! | two norms | | `4 E` |
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
    let tokens = u64::from(shape.tokens);
    let blocks: u64 = sub_network
        .counts()
        .map(|counts| {
            let block = BlockSizes::new(shape, counts);
            tokens * block.matrices() + 2 * tokens * tokens * block.attention_width
        })
        .sum();
    blocks + shape.outside_macs
}

/// Bytes of the weights that one inference reads.
#[must_use]
pub fn weight_bytes(shape: &ModelShape, sub_network: &SubNetwork) -> u64 {
    let blocks: u64 = sub_network
        .counts()
        .map(|counts| {
            let block = BlockSizes::new(shape, counts);
            block.matrices() + block.biases() + 4 * block.embed_dim
        })
        .sum();
    blocks * u64::from(shape.bytes_per_weight) + shape.outside_weight_bytes
}

/// Bytes of activations that the blocks move for one image, as an estimate:
/// the output of every linear layer is written once and read once, in the
/// precision of the weights. Attention scores are taken to stay on chip.
#[must_use]
pub fn activation_bytes(shape: &ModelShape, sub_network: &SubNetwork) -> u64 {
    let values: u64 = sub_network
        .counts()
        .map(|counts| {
            let block = BlockSizes::new(shape, counts);
            4 * block.attention_width + block.mlp_inputs * block.neurons + 2 * block.embed_dim
        })
        .sum();
    2 * values * u64::from(shape.tokens) * u64::from(shape.bytes_per_weight)
}

/// The sizes of one block of a sub-network.
struct BlockSizes {
    embed_dim: u64,
    attention_width: u64,
    neurons: u64,
    mlp_inputs: u64,
}

impl BlockSizes {
    fn new(shape: &ModelShape, (heads, neurons): (usize, usize)) -> Self {
        Self {
            embed_dim: u64::from(shape.embed_dim),
            attention_width: heads as u64 * u64::from(shape.head_dim),
            neurons: neurons as u64,
            mlp_inputs: match shape.mlp {
                MlpKind::Plain => 1,
                MlpKind::Gated => 2,
            },
        }
    }

    /// Entries of all matrices.
    fn matrices(&self) -> u64 {
        self.embed_dim * (4 * self.attention_width + (self.mlp_inputs + 1) * self.neurons)
    }

    fn biases(&self) -> u64 {
        3 * self.attention_width + self.mlp_inputs * self.neurons + 2 * self.embed_dim
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::vit_b16;

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
