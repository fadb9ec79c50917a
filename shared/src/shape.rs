//! The sizes of a model, as far as elasticity and cost depend on them.

use serde::{Deserialize, Serialize};

/// Blocks a structure map can address: a step holds the block in six bits.
pub const MAX_BLOCKS: usize = 64;

/// Neurons that one step removes: a SIMD and tensor-core tile.
pub const NEURON_QUANTUM: u16 = 8;

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
