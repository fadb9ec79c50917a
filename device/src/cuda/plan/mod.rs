//! The table of one rung: matrix products and kernels in their order.

mod attention;
mod attention_pooling;
mod builder;
mod fused_attention;
mod merging;
mod pooling;
mod rung;
mod sizes;

use headroom_shared::KeptStructures;

use super::buffer::{Buffer, Place};
use super::capability::ComputeCapability;
use super::kernel::Launch;
use super::unsupported::Unsupported;
use super::weights::LaidOutWeights;
use crate::model::Description;
use builder::Builder;
use rung::block_rungs;
use sizes::Sizes;

pub use sizes::buffer_sizes;

/// A matrix of a product: where it starts, the distance of its rows, and that to the same matrix of the next product
/// of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    pub place: Place,
    pub leading: usize,
    pub stride: usize,
}

/// `output[r, o] = scale * sum over i of input[r, i] * weight[o, i]`, several times.
///
/// All matrices are row-major, `[rows, inputs]`, `[outputs, inputs]` and `[rows, outputs]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    pub rows: usize,
    pub outputs: usize,
    pub inputs: usize,
    /// Whether the weight is stored as `[inputs, outputs]`.
    pub transposed: bool,
    pub weight: Matrix,
    pub input: Matrix,
    pub output: Matrix,
    /// How many such products, `stride` apart.
    pub count: usize,
    pub scale: f32,
    /// Whether the product is added to the output, rather than replacing it.
    pub accumulate: bool,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    Product(Product),
    Kernel(Launch),
    /// Fills the first values of a buffer with zeros.
    Zeros {
        buffer: Buffer,
        values: usize,
    },
}

/// A stage of the forward pass, for times and for the message that names where a NaN came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Embedding,
    Attention {
        block: usize,
    },
    /// Of tokens, between attention and MLP.
    Merging {
        block: usize,
    },
    Mlp {
        block: usize,
    },
    Pooling,
    Head,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Embedding => write!(formatter, "the embedding"),
            Self::Attention { block } => write!(formatter, "the attention of block {block}"),
            Self::Merging { block } => write!(formatter, "the merging of tokens in block {block}"),
            Self::Mlp { block } => write!(formatter, "the MLP of block {block}"),
            Self::Pooling => write!(formatter, "the pooling"),
            Self::Head => write!(formatter, "the head"),
        }
    }
}

/// What a stage leaves: the first values of a buffer in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageResult {
    pub stage: Stage,
    pub buffer: Buffer,
    pub values: usize,
}

/// What runs for one rung.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Each operation with the stage that it belongs to.
    pub operations: Vec<(Stage, Operation)>,
    /// What each stage leaves, in the order of the operations.
    pub results: Vec<StageResult>,
    /// Where the tokens are that are pooled, `[images, tokens, embed_dim]`: a merged one in the place of each that it
    /// stands for.
    pub tokens: Buffer,
}

impl Plan {
    /// The table of the structures in `kept`, for `images` images at once, on GPUs with `capability`.
    ///
    /// `description` is one that the CPU engine accepts and `weights` are laid out for.
    ///
    /// # Errors
    /// If the rung keeps what the model has not, or asks for what the GPU engine does not run.
    pub fn new(
        description: &Description,
        weights: &LaidOutWeights,
        images: usize,
        kept: &impl KeptStructures,
        capability: ComputeCapability,
    ) -> Result<Self, Unsupported> {
        buffer_sizes(description, weights, images, capability)?;
        let rungs = block_rungs(description, kept)?;
        let mut builder = Builder::new(Sizes::new(description, images), &weights.parts, capability);
        builder.embed(description);
        for (index, (block, rung)) in weights.parts.blocks.iter().zip(&rungs).enumerate() {
            let (projection, down) = match kept.correction() {
                None => (block.projection, block.down),
                Some(found) => {
                    let corrections = &weights.parts.corrections;
                    let count = corrections.len();
                    corrections.get(found).ok_or(Unsupported::Correction { found, count })?[index]
                }
            };
            builder.attention(index, block, projection, rung);
            builder.merge(index, block, rung);
            builder.mlp(index, block, down, rung.neurons, description.activation.into());
        }
        Ok(builder.pool_and_classify())
    }
}
