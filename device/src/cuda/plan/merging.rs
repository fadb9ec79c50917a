//! Merging of similar tokens between the attention and the MLP of a block, as the CPU engine's `merge_step` does it.

use super::super::buffer::{Buffer, Place};
use super::super::kernel::Kernel;
use super::super::weights::BlockParts;
use super::Stage;
use super::builder::Builder;
use super::rung::BlockRung;
use super::sizes::Sizes;

impl Builder<'_> {
    /// Merges tokens of the stream by the keys of the block's attention, and normalises what is left for the MLP.
    pub fn merge(&mut self, index: usize, block: &BlockParts, rung: &BlockRung) {
        if rung.merged == 0 {
            return;
        }
        self.stage = Stage::Merging { block: index };
        let Sizes { images, prefix, width, head_dim, tokens: dense, .. } = self.sizes;
        let (tokens, stream, out) = (self.tokens, self.stream, self.free());
        let patches = tokens - prefix;
        let evens = patches.div_ceil(2);
        let part = rung.heads * head_dim;
        self.launch(
            Kernel::MeanKeys,
            &[Buffer::Attention.at(part), Buffer::MeanKeys.at(0)],
            &[images * patches, tokens, prefix, rung.heads, head_dim, rung.query_dims],
        );
        self.launch(
            Kernel::MostAlike,
            &[Buffer::MeanKeys.at(0), Buffer::Matches.at(0)],
            &[images * evens, patches, rung.query_dims],
        );
        let [joined, places, next] = [0, 1, 2].map(|part| Buffer::Moves.at(part * self.rows()));
        let half = |half: usize| Buffer::GroupSizes.at(half * images * dense);
        let (sizes, new_sizes) = (half(self.half), half(1 - self.half));
        let first = !self.has_merged();
        let groups: Place = Buffer::Groups.at(0);
        self.launch(
            Kernel::ChooseMerged,
            &[Buffer::Matches.at(0), joined, places, next, groups, sizes, new_sizes, Buffer::LogSizes.at(0)],
            &[images, tokens, prefix, rung.merged, dense, first.into()],
        );
        self.launch(
            Kernel::MergeTokens,
            &[stream.at(0), joined, places, next, sizes, out.at(0)],
            &[self.rows() * width, tokens, tokens - rung.merged, width, dense, first.into()],
        );
        self.tokens -= rung.merged;
        self.stream = out;
        self.half = 1 - self.half;
        self.residual_norm(self.rows(), out, None, Some(block.norm2), Buffer::Normed);
        self.leaves_stream();
    }

    /// All tokens of the dense model after the final norm: a merged one is copied to the place of each that it stands
    /// for.
    pub(super) fn all_tokens(&mut self) -> Buffer {
        let (left, free) = match self.parts.final_norm {
            Some(_) => (self.free(), self.stream),
            None => (self.stream, self.free()),
        };
        if !self.has_merged() {
            return left;
        }
        let Sizes { images, tokens: dense, width, .. } = self.sizes;
        self.launch(
            Kernel::CopyBack,
            &[left.at(0), Buffer::Groups.at(0), free.at(0)],
            &[images * dense * width, self.tokens, dense, width],
        );
        free
    }
}
