//! Attention in one kernel, which keeps the scores to itself.

use super::super::buffer::{Buffer, Place};
use super::super::capability::ComputeCapability;
use super::super::kernel::{Kernel, Launch};
use super::Operation;
use super::builder::Builder;
use super::sizes::Sizes;

/// Queries that a block of threads has: `QUERIES_OF_BLOCK` in `kernels/fused_attention.h`.
const QUERIES_OF_BLOCK: usize = 64;

/// The kernel for heads of `head_dim` dimensions, of which at most `kept` are; `None` where attention is two products
/// with the scores between them in memory.
///
/// - The GPU must have its instructions ([`Kernel::needs`]).
/// - Eight values are copied at once, so that a head must begin at a multiple of eight.
/// - Any number of tokens: each 64 queries read the keys and values of their head again, which are `4 d / 64` bytes for
///   each score where `d` dimensions are kept. In memory a score of 2 bytes is written, read, written as a share and
///   read: 8 bytes. So up to 128 dimensions no number of tokens makes the kernel move more, and it has room for no more.
pub(super) fn fused_kernel(capability: ComputeCapability, head_dim: usize, kept: usize) -> Option<Kernel> {
    let kernel = match kept {
        ..=64 => Kernel::FusedAttention64,
        65..=128 => Kernel::FusedAttention128,
        _ => return None,
    };
    (capability >= kernel.needs() && head_dim.is_multiple_of(8)).then_some(kernel)
}

/// Heads that attend. Distances are in values.
pub(super) struct Attention {
    pub queries: Place,
    pub keys: Place,
    pub values: Place,
    pub query_rows: Rows,
    /// Of keys, and of values.
    pub key_leading: usize,
    /// Keys of an image.
    pub tokens: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub query_dims: usize,
    pub value_dims: usize,
    /// Whether a key weighs as many tokens as it stands for.
    pub weighted: bool,
}

/// The queries of each image.
pub(super) struct Rows {
    pub of_image: usize,
    /// The distance of rows.
    pub leading: usize,
    /// The distance of images: zero where all have the same.
    pub stride: usize,
}

impl Builder<'_> {
    /// What each query finds in `value_dims` dimensions of its heads, and zeros in the others.
    pub(super) fn attend_fused(&mut self, kernel: Kernel, attention: &Attention) {
        let Sizes { images, tokens: dense, .. } = self.sizes;
        let &Attention { queries, keys, values, ref query_rows, tokens, heads, head_dim, .. } = attention;
        let integers = [
            images * heads * query_rows.of_image.div_ceil(QUERIES_OF_BLOCK),
            query_rows.of_image,
            tokens,
            heads,
            head_dim,
            attention.query_dims,
            attention.value_dims,
            query_rows.leading,
            query_rows.stride,
            attention.key_leading,
            dense,
            attention.weighted.into(),
        ];
        let places = [queries, keys, values, Buffer::LogSizes.at(0), Buffer::Attended.at(0)];
        let mut launch = Launch::new(kernel, &places, &integers);
        launch.number = Some(1.0 / (head_dim as f32).sqrt());
        self.operations.push((self.stage, Operation::Kernel(launch)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_is_fused_where_the_gpu_and_the_dimensions_allow_it() {
        let on = |major: u32, minor: u32| fused_kernel(ComputeCapability { major, minor }, 64, 64);
        // Xavier, Turing, A100, Orin, H100, Thor.
        assert_eq!([on(7, 2), on(7, 5)], [None, None]);
        assert_eq!([on(8, 0), on(8, 7), on(9, 0), on(11, 0)], [Some(Kernel::FusedAttention64); 4]);
        let of = |head_dim: usize, kept: usize| fused_kernel(ComputeCapability::SM_80, head_dim, kept);
        assert_eq!(
            [of(72, 64), of(72, 65), of(128, 128)].map(|kernel| kernel.map(Kernel::name)),
            [Some("fused_attention_64_kernel"), Some("fused_attention_128_kernel"), Some("fused_attention_128_kernel")]
        );
        assert_eq!(of(136, 128), Some(Kernel::FusedAttention128));
        assert_eq!([of(136, 129), of(68, 64)], [None, None]);
    }

    /// The rule's arithmetic, for the least tokens and for many.
    #[test]
    fn the_fused_kernel_never_moves_more_than_the_scores_are() {
        for tokens in (1_usize..3000).step_by(7) {
            for dims in [8, 64, 128] {
                let again = 2 * 2 * dims * tokens * (tokens.div_ceil(QUERIES_OF_BLOCK) - 1);
                assert!(again <= 4 * 2 * tokens * tokens, "{tokens} tokens, {dims} dimensions");
            }
        }
    }
}
