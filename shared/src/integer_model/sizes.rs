//! The sizes and kinds of parts of an integer model.

use super::IntegerModelError;
use crate::shape::{MAX_BLOCKS, MlpKind};
use crate::sub_network::KeptStructures;

/// Largest number of tokens: attention weights of 14 bits and values of 16 bits then sum up in 32 bits.
pub const MAX_TOKENS: usize = 8192;

/// Most dimensions of a head: as many products of two numbers up to 4095 sum up in 32 bits.
pub const MAX_HEAD_DIM: usize = 128;

/// The nonlinearity of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationKind {
    /// `x Phi(x)` with the error function.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// `x sigmoid(1.702 x)`.
    QuickGelu,
    /// `x sigmoid(x)`.
    Silu,
}

/// From the tokens after the last block to the image embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolingKind {
    /// Token 0.
    Class,
    /// The norm of token 0 only.
    ClassThenNorm,
    /// `tanh(dense(token 0))`.
    ClassDenseTanh,
    /// The mean of tokens 0 and 1.
    MeanClassDistillation,
    /// The mean of the patch tokens.
    MeanPatches,
    /// That mean, normalised.
    MeanPatchesThenNorm,
    /// A learned query attends to all tokens, and an MLP follows: `a + down(act(up(norm(a))))`.
    Attention(AttentionPooling),
}

/// The sizes of [`PoolingKind::Attention`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionPooling {
    /// They divide the width of a token.
    pub heads: usize,
    pub neurons: usize,
    pub activation: ActivationKind,
}

/// From the image embedding to the classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// One linear layer on the embedding.
    Linear,
    /// One linear layer on token 0 and the mean of the patch tokens, joined.
    ClassAndPatchMean,
    /// The mean of two classifiers, of token 0 and of token 1.
    AverageOfTwo,
}

/// The sizes of the dense model, and which parts it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegerSizes {
    /// Of the RGB frame, in pixels.
    pub image_height: usize,
    pub image_width: usize,
    /// Side of a square patch, pixels.
    pub patch: usize,
    /// Tokens before the patch tokens.
    pub prefix_tokens: usize,
    pub embed_dim: usize,
    /// Of the dense model; a block may store fewer ([`BlockCounts`]).
    pub heads: usize,
    /// Of the dense model: scores are divided by its square root.
    pub head_dim: usize,
    /// Of the dense model.
    pub neurons: usize,
    pub blocks: usize,
    /// Outputs of the head; 0 where there is none.
    pub classes: usize,
    pub mlp: MlpKind,
    pub activation: ActivationKind,
    pub pooling: PoolingKind,
    pub head: Option<HeadKind>,
    /// Whether the tokens are normalised before block 0.
    pub embedding_norm: bool,
    /// Whether queries and keys of patch tokens are turned by their places.
    pub rotary: bool,
    /// Whether all tokens are normalised after the last block.
    pub final_norm: bool,
    /// Whether the uncorrected projections and down layers are stored. A model
    /// whose every stored rung has a correction does not need them.
    pub original_ends: bool,
}

/// What is stored of a block: prefixes of the dense model's structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCounts {
    pub heads: usize,
    /// Of each head's query and key.
    pub query_dims: usize,
    /// Of each head's value.
    pub value_dims: usize,
    pub neurons: usize,
}

impl BlockCounts {
    /// What `kept` keeps of a block whose heads have `head_dim` dimensions.
    #[must_use]
    pub fn of(kept: &impl KeptStructures, block: usize, head_dim: usize) -> Self {
        Self {
            heads: kept.heads(block),
            query_dims: kept.query_dims(block).unwrap_or(head_dim),
            value_dims: kept.value_dims(block).unwrap_or(head_dim),
            neurons: kept.neurons(block),
        }
    }

    /// Whether these are as many as `asked` or more, of each kind.
    #[must_use]
    pub const fn hold(&self, asked: &Self) -> bool {
        asked.heads <= self.heads
            && asked.query_dims <= self.query_dims
            && asked.value_dims <= self.value_dims
            && asked.neurons <= self.neurons
    }
}

impl IntegerSizes {
    /// Patch tokens of a frame.
    #[must_use]
    pub const fn patches(&self) -> usize {
        (self.image_height / self.patch) * (self.image_width / self.patch)
    }

    /// All tokens of a frame.
    #[must_use]
    pub const fn tokens(&self) -> usize {
        self.prefix_tokens + self.patches()
    }

    /// Bytes of a patch: its RGB values.
    #[must_use]
    pub const fn patch_values(&self) -> usize {
        3 * self.patch * self.patch
    }

    /// Bytes of a frame: RGB, row by row.
    #[must_use]
    pub const fn frame_bytes(&self) -> usize {
        3 * self.image_height * self.image_width
    }

    /// Inputs of the head's linear layer.
    #[must_use]
    pub const fn head_inputs(&self) -> usize {
        if matches!(self.head, Some(HeadKind::ClassAndPatchMean)) { 2 * self.embed_dim } else { self.embed_dim }
    }

    /// Everything of a block of the dense model.
    #[must_use]
    pub const fn dense_block(&self) -> BlockCounts {
        BlockCounts { heads: self.heads, query_dims: self.head_dim, value_dims: self.head_dim, neurons: self.neurons }
    }

    /// Dimensions that a query keeps at least: a position turns all of them.
    #[must_use]
    pub const fn fewest_query_dims(&self) -> usize {
        if self.rotary { self.head_dim } else { 1 }
    }

    /// Class and distillation token, where pooling or head read them: tokens that are never merged.
    const fn leading_tokens_read(&self) -> usize {
        match (self.pooling, self.head) {
            (PoolingKind::MeanClassDistillation, _) | (_, Some(HeadKind::AverageOfTwo)) => 2,
            (PoolingKind::Class | PoolingKind::ClassThenNorm | PoolingKind::ClassDenseTanh, _)
            | (_, Some(HeadKind::ClassAndPatchMean)) => 1,
            _ => 0,
        }
    }

    /// The first version of the format that has all of it.
    pub(super) const fn format_version(&self) -> u32 {
        if self.rotary || matches!(self.pooling, PoolingKind::Attention(_)) { 2 } else { 1 }
    }

    pub(super) fn validate(&self) -> Result<(), IntegerModelError> {
        const WIDEST: usize = u16::MAX as usize;
        in_range("image height", 1, WIDEST, self.image_height)?;
        in_range("image width", 1, WIDEST, self.image_width)?;
        // A patch's 3 * side^2 inputs fit 16 bits.
        in_range("patch", 1, self.image_height.min(self.image_width).min(147), self.patch)?;
        in_range("prefix tokens", self.leading_tokens_read(), WIDEST, self.prefix_tokens)?;
        in_range("tokens", 1, MAX_TOKENS, self.tokens())?;
        in_range("embed_dim", 1, WIDEST / 2, self.embed_dim)?;
        in_range("heads", 1, usize::from(u8::MAX), self.heads)?;
        in_range("head_dim", 1, MAX_HEAD_DIM, self.head_dim)?;
        if self.rotary {
            in_range("head_dim modulo 4, with rotary positions,", 0, 0, self.head_dim % 4)?;
        }
        in_range("neurons", 1, WIDEST, self.neurons)?;
        in_range("blocks", 1, MAX_BLOCKS, self.blocks)?;
        if let PoolingKind::Attention(AttentionPooling { heads, neurons, .. }) = self.pooling {
            in_range("pooling heads", 1, usize::from(u8::MAX), heads)?;
            in_range("embed_dim modulo pooling heads", 0, 0, self.embed_dim % heads)?;
            in_range("dimensions of a pooling head", 1, MAX_HEAD_DIM, self.embed_dim / heads)?;
            in_range("pooling neurons", 1, WIDEST, neurons)?;
        }
        let (fewest, most) = if self.head.is_some() { (1, WIDEST) } else { (0, 0) };
        in_range("classes", fewest, most, self.classes)
    }
}

impl BlockCounts {
    pub(super) fn validate(&self, sizes: &IntegerSizes) -> Result<(), IntegerModelError> {
        let dense = sizes.dense_block();
        in_range("stored heads", 0, dense.heads, self.heads)?;
        in_range("stored query dimensions", sizes.fewest_query_dims(), dense.query_dims, self.query_dims)?;
        in_range("stored value dimensions", 1, dense.value_dims, self.value_dims)?;
        in_range("stored neurons", 0, dense.neurons, self.neurons)
    }
}

pub(super) fn in_range(
    field: &'static str,
    smallest: usize,
    largest: usize,
    found: usize,
) -> Result<(), IntegerModelError> {
    if (smallest..=largest).contains(&found) {
        return Ok(());
    }
    let [smallest, largest, found] = [smallest, largest, found].map(|value| value as u64);
    Err(IntegerModelError::OutOfRange { field, smallest, largest, found })
}
