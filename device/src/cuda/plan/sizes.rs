//! How large the buffers are.

use super::super::buffer::{Buffer, BufferSizes};
use super::super::capability::ComputeCapability;
use super::super::unsupported::Unsupported;
use super::super::weights::{LaidOutWeights, PoolingParts};
use super::fused_attention::fused_kernel;
use crate::model::Description;

/// What each buffer must hold for `images` images of any rung, on GPUs with `capability`.
///
/// # Errors
/// If a kernel could not index one of them.
pub fn buffer_sizes(
    description: &Description,
    weights: &LaidOutWeights,
    images: usize,
    capability: ComputeCapability,
) -> Result<BufferSizes, Unsupported> {
    let sizes = Sizes::new(description, images);
    let image = &description.image;
    let stream = sizes.rows() * sizes.width;
    let attended = sizes.rows() * sizes.heads * sizes.head_dim;
    let gated = weights.parts.blocks.iter().any(|block| block.gated);
    let pooling = match &weights.parts.pooling {
        PoolingParts::Attention(parts) => Some(parts),
        _ => None,
    };
    BufferSizes::new(|buffer| match buffer {
        Buffer::Matrices => weights.matrices.len(),
        Buffer::Vectors => weights.vectors.len(),
        Buffer::Pixels => images * image.channels * image.height * image.width,
        Buffer::Patches => images * sizes.patches() * image.channels * image.patch * image.patch,
        Buffer::Stream | Buffer::Normed | Buffer::Branch | Buffer::Tokens => stream,
        Buffer::Attention => (3 * attended).max(if pooling.is_some() { 2 * stream } else { 0 }),
        Buffer::Scores => {
            // A rung keeps any number of a head's dimensions, so that with all of them no rung has scores in memory.
            let rows = |heads: usize, head_dim: usize, queries: usize| {
                if fused_kernel(capability, head_dim, head_dim).is_some() { 0 } else { heads * queries }
            };
            let of_blocks = rows(sizes.heads, sizes.head_dim, sizes.tokens);
            let of_pooling = pooling.map_or(0, |parts| rows(parts.heads, sizes.width / parts.heads, 1));
            images * of_blocks.max(of_pooling) * score_leading(sizes.tokens)
        }
        Buffer::Attended => attended.max(if pooling.is_some() { images * sizes.width } else { 0 }),
        Buffer::Hidden => {
            let hidden = sizes.rows() * description.neurons * if gated { 2 } else { 1 };
            hidden.max(pooling.map_or(0, |parts| images * parts.neurons))
        }
        Buffer::MeanKeys => images * sizes.patches() * sizes.head_dim,
        Buffer::Matches => images * 2 * sizes.patches().div_ceil(2),
        Buffer::Moves => 3 * sizes.rows(),
        Buffer::Groups | Buffer::LogSizes => sizes.rows(),
        Buffer::GroupSizes => 2 * sizes.rows(),
        Buffer::Pooled => images * sizes.width,
        Buffer::Features => images * 2 * sizes.width,
        Buffer::Logits => images * weights.parts.classes,
    })
}

/// Sizes of the dense model.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub images: usize,
    pub tokens: usize,
    pub prefix: usize,
    pub width: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub neurons: usize,
}

impl Sizes {
    pub fn new(description: &Description, images: usize) -> Self {
        Self {
            images,
            tokens: description.tokens(),
            prefix: description.prefix_tokens(),
            width: description.embed_dim,
            heads: description.heads,
            head_dim: description.head_dim,
            neurons: description.neurons,
        }
    }

    /// Tokens of all images.
    pub fn rows(&self) -> usize {
        self.images * self.tokens
    }

    pub fn patches(&self) -> usize {
        self.tokens - self.prefix
    }
}

/// The distance of rows of scores over `tokens`: they start where tensor cores can read them.
pub(super) fn score_leading(tokens: usize) -> usize {
    tokens.next_multiple_of(8)
}
