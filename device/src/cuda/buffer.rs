//! The memory that a plan names: buffers by purpose, and places in them.

use super::unsupported::Unsupported;

/// How a buffer's values are stored on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    F16,
    F32,
}

/// The buffers of a model on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Buffer {
    /// All matrices.
    Matrices,
    /// All biases, scales, norms, and what tokens start with.
    Vectors,
    /// `[images, channels, height, width]`.
    Pixels,
    /// `[images * patches, channels * patch * patch]`.
    Patches,
    /// The residual stream, `[images, tokens, embed_dim]`.
    Stream,
    /// The stream after a norm, for the next product.
    Normed,
    /// Queries, keys and values of each token.
    Attention,
    /// `[heads, tokens, leading]` of each image, the rows padded to a multiple of eight. None where attention is fused.
    Scores,
    /// What the heads found, `[images * tokens, heads * head_dim]`.
    Attended,
    /// The hidden layer of the MLP; of a gated one gate and up.
    Hidden,
    /// What a branch gives, before its bias and scale.
    Branch,
    /// The stream after the final norm; where tokens are merged, every other time the stream itself.
    Tokens,
    /// Mean keys of the patch tokens, `[images, query_dims, patches]`.
    MeanKeys,
    /// For each even patch token the odd one that is most like it, and how like, `[images, evens, 2]`.
    ///
    /// Numbers of tokens are stored as f32, which has all up to 2^24.
    Matches,
    /// `[3, images, tokens]`: which token each joins, where that is after the merging, and the next one that joins it.
    Moves,
    /// For each token of the dense model the one that stands for it, `[images, tokens]`.
    Groups,
    /// How many tokens each stands for, before and after a merging in turns, `[2, images, tokens]`.
    GroupSizes,
    /// The logarithms of these, `[images, tokens]`.
    LogSizes,
    /// The image embeddings, `[images, embed_dim]`.
    Pooled,
    /// What the classifier reads.
    Features,
    /// `[images, classes]`.
    Logits,
}

impl Buffer {
    pub const ALL: [Self; 21] = [
        Self::Matrices,
        Self::Vectors,
        Self::Pixels,
        Self::Patches,
        Self::Stream,
        Self::Normed,
        Self::Attention,
        Self::Scores,
        Self::Attended,
        Self::Hidden,
        Self::Branch,
        Self::Tokens,
        Self::MeanKeys,
        Self::Matches,
        Self::Moves,
        Self::Groups,
        Self::GroupSizes,
        Self::LogSizes,
        Self::Pooled,
        Self::Features,
        Self::Logits,
    ];

    #[must_use]
    pub fn storage(self) -> Storage {
        match self {
            Self::Matrices
            | Self::Patches
            | Self::Normed
            | Self::Attention
            | Self::Scores
            | Self::Attended
            | Self::Hidden
            | Self::Features => Storage::F16,
            Self::Vectors
            | Self::Pixels
            | Self::Stream
            | Self::Branch
            | Self::Tokens
            | Self::MeanKeys
            | Self::Matches
            | Self::Moves
            | Self::Groups
            | Self::GroupSizes
            | Self::LogSizes
            | Self::Pooled
            | Self::Logits => Storage::F32,
        }
    }

    /// The name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Matrices => "matrices",
            Self::Vectors => "vectors",
            Self::Pixels => "pixels",
            Self::Patches => "patches",
            Self::Stream => "stream",
            Self::Normed => "normed tokens",
            Self::Attention => "queries, keys and values",
            Self::Scores => "attention scores",
            Self::Attended => "attended values",
            Self::Hidden => "hidden layer",
            Self::Branch => "branch",
            Self::Tokens => "final tokens",
            Self::MeanKeys => "mean keys",
            Self::Matches => "matches of tokens",
            Self::Moves => "moves of tokens",
            Self::Groups => "groups of tokens",
            Self::GroupSizes => "sizes of groups",
            Self::LogSizes => "logarithms of sizes",
            Self::Pooled => "image embeddings",
            Self::Features => "features",
            Self::Logits => "logits",
        }
    }
}

/// A value of a buffer, from which something starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub buffer: Buffer,
    /// In values, not in bytes.
    pub offset: usize,
}

impl Buffer {
    /// The place `offset` values from the start.
    #[must_use]
    pub fn at(self, offset: usize) -> Place {
        Place { buffer: self, offset }
    }
}

/// How many values each buffer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSizes([usize; Buffer::ALL.len()]);

impl BufferSizes {
    /// # Errors
    /// If a kernel could not index a buffer: they count in 32 bits.
    pub(super) fn new(size: impl Fn(Buffer) -> usize) -> Result<Self, Unsupported> {
        let sizes = Buffer::ALL.map(size);
        for (buffer, values) in Buffer::ALL.into_iter().zip(sizes) {
            // Matrices are met by products only, which take an address.
            // A block counts on to its last value, of 2,048 at most, hence the margin.
            if buffer != Buffer::Matrices && values > i32::MAX as usize - 4096 {
                return Err(Unsupported::TooLarge { buffer: buffer.name(), values });
            }
        }
        Ok(Self(sizes))
    }

    /// The values of `buffer`, at least 1.
    #[must_use]
    pub fn values(&self, buffer: Buffer) -> usize {
        self.0[buffer as usize].max(1)
    }

    /// The bytes of all buffers on the GPU.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let bytes = |buffer: Buffer| match buffer.storage() {
            Storage::F16 => 2 * self.values(buffer),
            Storage::F32 => 4 * self.values(buffer),
        };
        Buffer::ALL.into_iter().map(bytes).sum()
    }
}
