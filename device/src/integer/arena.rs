//! The scratch memory of the engine: one block of bytes, always cut in the same way.

use headroom_shared::integer_model::{AttentionPooling, BlockCounts, IntegerModel, IntegerSizes, PoolingKind};
use headroom_shared::shape::MlpKind;

use super::attention::{padded_dims, padded_tokens, pairs};
use super::error::IntegerEngineError;
use super::merge::{MatchBuffers, TokenGroups, spread_tokens};
use super::quantise::{Step, quantised_stride};

/// Tokens that go through an MLP together where memory is scarce.
pub const FEW_TOKENS: usize = 8;

/// Every buffer begins at a multiple of so many bytes from the first such address in the arena.
const ALIGNMENT: usize = 16;

/// Tokens whose activations are widened at the same time.
pub(super) const WIDENED_TOKENS: usize = 2;

/// The sizes that scratch memory depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaSizes {
    pub tokens: usize,
    pub embed_dim: usize,
    /// Heads times dimensions of a value.
    pub attended: usize,
    /// Heads times dimensions of a key: threads that share a pass keep the keys of a block apart.
    pub keys: usize,
    /// The most of a head, of a block or of attention pooling.
    pub query_dims: usize,
    pub value_dims: usize,
    pub neurons: usize,
    /// Of attention pooling; 0 without it.
    pub pooling_neurons: usize,
    pub gated: bool,
    /// Inputs of the patch embedding.
    pub patch_values: usize,
    /// Tokens that go through an MLP together.
    pub together: usize,
}

impl ArenaSizes {
    /// Of a model whose largest stored counts of any block are `largest`.
    #[must_use]
    pub const fn new(sizes: &IntegerSizes, largest: &BlockCounts, together: usize) -> Self {
        let (pooling_dims, pooling_neurons) = match sizes.pooling {
            PoolingKind::Attention(AttentionPooling { heads, neurons, .. }) => (sizes.embed_dim / heads, neurons),
            _ => (0, 0),
        };
        Self {
            tokens: sizes.tokens(),
            embed_dim: sizes.embed_dim,
            attended: largest.heads * largest.value_dims,
            keys: largest.heads * largest.query_dims,
            query_dims: most(largest.query_dims, pooling_dims),
            value_dims: most(largest.value_dims, pooling_dims),
            neurons: largest.neurons,
            pooling_neurons,
            gated: matches!(sizes.mlp, MlpKind::Gated),
            patch_values: sizes.patch_values(),
            together,
        }
    }

    /// Of `model`, with as many tokens together.
    #[must_use]
    pub fn of_model(model: &IntegerModel<'_>, together: usize) -> Self {
        let mut largest = BlockCounts { heads: 0, query_dims: 1, value_dims: 1, neurons: 0 };
        let (mut attended, mut keys) = (0, 0);
        for block in 0..model.sizes().blocks {
            let counts = model.counts(block);
            largest.heads = largest.heads.max(counts.heads);
            largest.query_dims = largest.query_dims.max(counts.query_dims);
            largest.value_dims = largest.value_dims.max(counts.value_dims);
            largest.neurons = largest.neurons.max(counts.neurons);
            attended = attended.max(counts.heads * counts.value_dims);
            keys = keys.max(counts.heads * counts.query_dims);
        }
        Self { attended, keys, ..Self::new(model.sizes(), &largest, together) }
    }

    /// Values of the widest row that is quantised a few tokens at a time.
    const fn widest(&self) -> usize {
        // Two embeddings are the input of a head that reads token 0 and the mean of the patches.
        let neurons = most(self.neurons, self.pooling_neurons);
        most(most(self.attended, neurons), most(self.patch_values, 2 * self.embed_dim))
    }

    const fn head_dims(&self) -> usize {
        most(self.query_dims, self.value_dims)
    }

    /// Values of each buffer, and bytes of a value, in order.
    const fn buffers(&self) -> [(usize, usize); 21] {
        let quantised =
            most(self.tokens * quantised_stride(self.embed_dim), self.together * quantised_stride(self.widest()));
        let padded_tokens = padded_tokens(self.tokens);
        let query_pairs = pairs(self.query_dims);
        let hidden = self.together * self.neurons;
        let hidden = if self.gated { 2 * hidden } else { hidden };
        let half = self.tokens.div_ceil(2);
        [
            (self.tokens * self.embed_dim, 4),
            (quantised, 1),
            (most(self.tokens, self.together), size_of::<Step>()),
            (WIDENED_TOKENS * quantised_stride(most(self.widest(), self.embed_dim)), 2),
            (most(most(hidden, self.pooling_neurons), self.tokens * self.query_dims), 4),
            (2 * self.embed_dim, 4),
            (most(self.tokens, spread_tokens(self.tokens)) * self.head_dims(), 4),
            (self.tokens * query_pairs, 2),
            (padded_tokens * query_pairs, 2),
            (padded_tokens * padded_dims(self.value_dims), 2),
            (self.tokens, 4),
            (padded_tokens, 4),
            (padded_tokens, 4),
            (padded_tokens, 2),
            (most(self.tokens * self.attended, self.embed_dim), 4),
            (self.tokens, 2),
            (self.tokens, 4),
            (self.tokens, 2),
            (half, 4),
            (half, 2),
            (self.tokens, 2),
        ]
    }
}

const fn most(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// Bytes of scratch memory, enough for any address of the arena.
///
/// # Panics
/// If they are more than a `usize` counts.
#[must_use]
pub const fn arena_bytes(sizes: &ArenaSizes) -> usize {
    let buffers = sizes.buffers();
    let mut bytes = ALIGNMENT - 1;
    let mut buffer = 0;
    while buffer < buffers.len() {
        bytes += (buffers[buffer].0 * buffers[buffer].1).next_multiple_of(ALIGNMENT);
        buffer += 1;
    }
    bytes
}

/// The arena, cut up.
pub(super) struct Buffers<'a> {
    /// The residual stream, `[tokens, embed_dim]`.
    pub stream: &'a mut [f32],
    pub rows: RowBuffers<'a>,
    pub head: HeadBuffers<'a>,
    /// What the heads give, `[tokens, heads * value_dims]`; of attention pooling, of one token.
    pub attended: &'a mut [f32],
    pub groups: TokenGroups<'a>,
}

/// What layers need that look at each token alone.
pub(super) struct RowBuffers<'a> {
    /// Inputs of a product.
    pub quantised: &'a mut [u8],
    /// One for each row of `quantised`.
    pub steps: &'a mut [Step],
    /// A few rows of `quantised`, less their zeros, in the order that the kernel reads.
    pub widened: &'a mut [i16],
    /// Neurons, `[together, neurons]`; of a gated MLP first the gates and then the others. Before the MLP, where tokens
    /// are merged, their keys `[tokens, query_dims]`.
    pub hidden: &'a mut [f32],
    /// One row, or two.
    pub row: &'a mut [f32],
}

/// What a head needs.
pub(super) struct HeadBuffers<'a> {
    /// Queries, keys or values of a head, `[tokens, dims]`; after the heads, keys of tokens to be compared.
    pub rows: &'a mut [f32],
    pub queries: &'a mut [i16],
    pub keys: &'a mut [i16],
    pub values: &'a mut [i16],
    pub query_scales: &'a mut [f32],
    pub key_scales: &'a mut [f32],
    /// Of one query, one for each token.
    pub scores: &'a mut [f32],
    /// The attention that these scores give.
    pub attention: &'a mut [i16],
}

impl<'a> Buffers<'a> {
    /// Cuts `arena`, whose size was checked.
    pub fn cut(arena: &'a mut [u8], sizes: &ArenaSizes) -> Self {
        let (_, aligned, _) = bytemuck::pod_align_to_mut::<u8, Aligned>(arena);
        let mut rest: &'a mut [u8] = bytemuck::cast_slice_mut(aligned);
        let mut buffers = sizes.buffers().into_iter();
        Self {
            stream: take(&mut rest, &mut buffers),
            rows: RowBuffers {
                quantised: take(&mut rest, &mut buffers),
                steps: take(&mut rest, &mut buffers),
                widened: take(&mut rest, &mut buffers),
                hidden: take(&mut rest, &mut buffers),
                row: take(&mut rest, &mut buffers),
            },
            head: HeadBuffers {
                rows: take(&mut rest, &mut buffers),
                queries: take(&mut rest, &mut buffers),
                keys: take(&mut rest, &mut buffers),
                values: take(&mut rest, &mut buffers),
                query_scales: take(&mut rest, &mut buffers),
                key_scales: take(&mut rest, &mut buffers),
                scores: take(&mut rest, &mut buffers),
                attention: take(&mut rest, &mut buffers),
            },
            attended: take(&mut rest, &mut buffers),
            groups: TokenGroups {
                sizes: take(&mut rest, &mut buffers),
                log_sizes: take(&mut rest, &mut buffers),
                places: take(&mut rest, &mut buffers),
                matches: MatchBuffers {
                    likeness: take(&mut rest, &mut buffers),
                    odd: take(&mut rest, &mut buffers),
                    moves: take(&mut rest, &mut buffers),
                },
            },
        }
    }
}

/// Refuses an arena that is too small.
pub(super) fn check(arena: &[u8], sizes: &ArenaSizes) -> Result<(), IntegerEngineError> {
    let (needed, found) = (arena_bytes(sizes), arena.len());
    if found < needed { Err(IntegerEngineError::Arena { needed, found }) } else { Ok(()) }
}

/// A type with the alignment of the buffers.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(16))]
struct Aligned([u8; ALIGNMENT]);

fn take<'a, T: bytemuck::Pod>(
    rest: &mut &'a mut [u8],
    buffers: &mut impl Iterator<Item = (usize, usize)>,
) -> &'a mut [T] {
    let (count, bytes_each) = buffers.next().expect("as many buffers as fields");
    debug_assert_eq!(bytes_each, size_of::<T>(), "the list of buffers is in the order of the fields");
    let bytes = count * bytes_each;
    let (taken, left) = core::mem::take(rest).split_at_mut(bytes.next_multiple_of(ALIGNMENT));
    *rest = left;
    bytemuck::cast_slice_mut(&mut taken[..bytes])
}
