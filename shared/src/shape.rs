//! The sizes of a model, as far as elasticity and cost depend on them.

use serde::{Deserialize, Serialize};

/// Blocks a structure map can address: a step holds the block in six bits.
pub const MAX_BLOCKS: usize = 64;

/// Widest attention of a block: heads times dimensions of a head.
pub const MAX_ATTENTION_WIDTH: u32 = u16::MAX as u32;

/// Largest cost outside the blocks, in MACs and in bytes. With the widths of
/// the integers here it keeps every cost below 2^59.
pub const MAX_OUTSIDE: u64 = 1 << 57;

/// Neurons that one step removes: a SIMD and tensor-core tile.
pub const NEURON_QUANTUM: u16 = 8;

/// Dimensions of each head that one step removes: half a vector register, and whole tensor-core tiles.
pub const DIMENSION_QUANTUM: u16 = 8;

/// The MLP of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MlpKind {
    /// `fc2(act(fc1(x)))`: a neuron is one row of fc1 and one column of fc2.
    Plain,
    /// `fc2(act(gate(x)) * up(x))`: a neuron is one row of gate, one of up and one column of fc2.
    Gated,
}

/// The sizes of a model. Every block has the same dense sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelShape {
    /// Transformer blocks, 1 to [`MAX_BLOCKS`].
    pub blocks: u8,
    /// Attention heads of a block in the dense model.
    pub heads: u8,
    /// Dimensions of one head.
    pub head_dim: u16,
    /// MLP hidden neurons of a block in the dense model.
    pub neurons: u16,
    /// Width of a token.
    pub embed_dim: u16,
    /// Tokens of one image at the input size, prefix tokens included.
    pub tokens: u16,
    /// The form of the MLP.
    pub mlp: MlpKind,
    /// Bytes of one stored weight: 4 (f32), 2 (f16, bf16) or 1 (int8).
    pub bytes_per_weight: u8,
    /// Multiply-accumulates of one image outside the blocks (patch embedding, pooling, classifier).
    pub outside_macs: u64,
    /// Bytes of the weights outside the blocks.
    pub outside_weight_bytes: u64,
    /// Heads of a block that are never removed.
    pub floor_heads: u8,
    /// Neurons of a block that are never removed.
    pub floor_neurons: u16,
}

/// A size of a [`ModelShape`] that no model can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    #[error("model shape: {field} is {found}, expected {smallest} to {largest}")]
    OutOfRange { field: &'static str, smallest: u64, largest: u64, found: u64 },
    #[error("model shape: a weight has {found} bytes, expected 1, 2 or 4")]
    BytesPerWeight { found: u8 },
}

impl ModelShape {
    /// Checks every size against its limit.
    ///
    /// # Errors
    /// Names the first size that is out of range.
    pub fn validate(&self) -> Result<(), ShapeError> {
        let width = u64::from(self.heads) * u64::from(self.head_dim);
        in_range("blocks", 1, MAX_BLOCKS as u64, u64::from(self.blocks))?;
        in_range("heads", 1, u64::from(u8::MAX), u64::from(self.heads))?;
        in_range("head_dim", 1, u64::from(u16::MAX), u64::from(self.head_dim))?;
        in_range("heads * head_dim", 1, u64::from(MAX_ATTENTION_WIDTH), width)?;
        in_range("neurons", 1, u64::from(u16::MAX), u64::from(self.neurons))?;
        in_range("embed_dim", 1, u64::from(u16::MAX), u64::from(self.embed_dim))?;
        in_range("tokens", 1, u64::from(u16::MAX), u64::from(self.tokens))?;
        in_range("outside_macs", 0, MAX_OUTSIDE, self.outside_macs)?;
        in_range("outside_weight_bytes", 0, MAX_OUTSIDE, self.outside_weight_bytes)?;
        in_range("floor_heads", 0, u64::from(self.heads), u64::from(self.floor_heads))?;
        in_range("floor_neurons", 0, u64::from(self.neurons), u64::from(self.floor_neurons))?;
        match self.bytes_per_weight {
            1 | 2 | 4 => Ok(()),
            found => Err(ShapeError::BytesPerWeight { found }),
        }
    }

    /// Steps from the dense model down to the floors of every block, when heads go whole; dimensions inside them are
    /// others ([`Self::removable_dimension_steps`]).
    #[must_use]
    pub fn removable_steps(&self) -> usize {
        let heads = usize::from(self.heads.saturating_sub(self.floor_heads));
        // A group is removable only if all of it is above the floor.
        let groups = self.neurons.div_ceil(NEURON_QUANTUM);
        let kept_groups = self.floor_neurons.div_ceil(NEURON_QUANTUM);
        usize::from(self.blocks) * (heads + usize::from(groups.saturating_sub(kept_groups)))
    }

    /// Steps that remove value dimensions, and as many that remove query dimensions: all groups but the first one of
    /// every block.
    #[must_use]
    pub fn removable_dimension_steps(&self) -> usize {
        usize::from(self.blocks) * usize::from(self.head_dim.div_ceil(DIMENSION_QUANTUM).saturating_sub(1))
    }
}

fn in_range(field: &'static str, smallest: u64, largest: u64, found: u64) -> Result<(), ShapeError> {
    if (smallest..=largest).contains(&found) {
        Ok(())
    } else {
        Err(ShapeError::OutOfRange { field, smallest, largest, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::vit_b16;

    #[test]
    fn vit_b16_is_valid_and_has_4752_steps() {
        assert_eq!(vit_b16().validate(), Ok(()));
        assert_eq!(vit_b16().removable_steps(), 12 * (384 + 12));
    }

    #[test]
    fn floors_inside_a_group_keep_the_group() {
        let shape = ModelShape { neurons: 20, floor_neurons: 9, heads: 3, floor_heads: 1, blocks: 2, ..vit_b16() };
        // Groups 0..8, 8..16, 16..20; 9 neurons need the first two.
        assert_eq!(shape.removable_steps(), 2 * (1 + 2));
    }

    #[test]
    fn names_the_size_that_is_out_of_range() {
        let out_of_range = |shape: ModelShape| match shape.validate() {
            Err(ShapeError::OutOfRange { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(out_of_range(ModelShape { blocks: 0, ..vit_b16() }), "blocks");
        assert_eq!(out_of_range(ModelShape { blocks: 65, ..vit_b16() }), "blocks");
        assert_eq!(out_of_range(ModelShape { heads: 0, ..vit_b16() }), "heads");
        assert_eq!(out_of_range(ModelShape { head_dim: 0, ..vit_b16() }), "head_dim");
        assert_eq!(out_of_range(ModelShape { head_dim: 60_000, ..vit_b16() }), "heads * head_dim");
        assert_eq!(out_of_range(ModelShape { neurons: 0, ..vit_b16() }), "neurons");
        assert_eq!(out_of_range(ModelShape { embed_dim: 0, ..vit_b16() }), "embed_dim");
        assert_eq!(out_of_range(ModelShape { tokens: 0, ..vit_b16() }), "tokens");
        assert_eq!(out_of_range(ModelShape { outside_macs: u64::MAX, ..vit_b16() }), "outside_macs");
        assert_eq!(out_of_range(ModelShape { outside_weight_bytes: u64::MAX, ..vit_b16() }), "outside_weight_bytes");
        assert_eq!(out_of_range(ModelShape { floor_heads: 13, ..vit_b16() }), "floor_heads");
        assert_eq!(out_of_range(ModelShape { floor_neurons: 3073, ..vit_b16() }), "floor_neurons");
        assert_eq!(
            ModelShape { bytes_per_weight: 3, ..vit_b16() }.validate(),
            Err(ShapeError::BytesPerWeight { found: 3 })
        );
    }
}
