//! The second step of a block: what looks at each token alone, shared by the threads of a team.
//!
//! A task is a chunk of tokens that goes through the end of the attention branch, the MLP and the
//! norm that the next step begins with, in buffers of its thread. Chunks are independent. Where a block merges tokens
//! between the two branches, they are steps of their own.

use super::block::PackedBlock;
use super::correction::CorrectedBlock;
use super::matmul::{Operand, Product, Segment, Target};
use super::norm::{NormTarget, Normalise, PackedNorm};
use super::panel::{PanelRow, even_part, panels};
use super::shared::Shared;
use super::simd::InstructionSet;
use super::team::Tasks;
use super::workspace::Local;

/// Tokens of a chunk at most: enough to use each weight many times, few enough for the wide hidden
/// layer to stay in a core's own cache.
pub(super) const MOST_TOKENS: usize = 112;

/// Chunks for each thread, where there are several: one that is held up leaves work to others.
const CHUNKS_PER_THREAD: usize = 2;

/// Smaller chunks than this are made only where threads would have none: each reads all weights of
/// the block.
const FEWEST_TOKENS: usize = 32;

/// How the tokens of a batch are divided into chunks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chunks {
    /// All tokens, evenly.
    Even { tokens: usize, count: usize },
    /// For each image its first tokens, which are few.
    OfImages { batch: usize, tokens: usize, wanted: usize },
}

impl Chunks {
    /// The chunks of the first `wanted` of each image's `tokens`: all of them, or few.
    pub(super) fn new(batch: usize, tokens: usize, wanted: usize, threads: usize) -> Self {
        if wanted < tokens.min(MOST_TOKENS) {
            Self::OfImages { batch, tokens, wanted }
        } else {
            Self::Even { tokens: batch * tokens, count: even_chunks(batch * tokens, threads) }
        }
    }

    pub(super) fn count(self) -> usize {
        match self {
            Self::Even { count, .. } => count,
            Self::OfImages { batch, .. } => batch,
        }
    }

    /// The first token of a chunk, and how many it has.
    fn chunk(self, index: usize) -> (usize, usize) {
        match self {
            Self::Even { tokens, count } => even_part(tokens, count, index),
            Self::OfImages { tokens, wanted, .. } => (index * tokens, wanted),
        }
    }
}

/// The chunks that `tokens` are divided into.
pub(super) fn even_chunks(tokens: usize, threads: usize) -> usize {
    let fewest = tokens.div_ceil(MOST_TOKENS);
    if threads == 1 {
        return fewest;
    }
    let several = (CHUNKS_PER_THREAD * threads).min(tokens / FEWEST_TOKENS);
    fewest.max(several).next_multiple_of(threads).min(tokens)
}

/// The norm that the next step begins with, and where its result goes.
#[derive(Clone, Copy)]
pub(super) struct NextNorm<'a> {
    pub norm: &'a PackedNorm,
    pub output: NormOutput<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum NormOutput<'a> {
    /// Panels with a row for each token of the batch.
    Panels(Shared<'a, PanelRow>),
    /// A row after the other.
    Rows(Shared<'a, f32>),
}

impl NextNorm<'_> {
    /// Normalises the chunk `stream`, which starts at token `first` of `tokens`; no other thread may have it.
    pub(super) fn run(
        self,
        set: InstructionSet,
        width: usize,
        stream: &[f32],
        first: usize,
        tokens: usize,
        local: &mut Local,
    ) {
        let target = match self.output {
            NormOutput::Panels(out) => NormTarget::Panels { out, rows: tokens, first },
            // SAFETY: as the caller promises.
            #[expect(unsafe_code, reason = "chunks of several threads go to one buffer")]
            NormOutput::Rows(out) => NormTarget::Rows(unsafe { out.part(first * width..first * width + stream.len()) }),
        };
        set.run(Normalise { norm: self.norm, input: stream, width, row: &mut local.row, target });
    }
}

/// What of the step is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Branches {
    Both,
    Attention,
    Mlp,
}

pub(super) struct TokensStep<'a> {
    pub branches: Branches,
    pub set: InstructionSet,
    pub width: usize,
    pub block: &'a PackedBlock,
    pub ends: CorrectedBlock<'a>,
    /// What the heads found, and which rows of the projection it meets.
    pub attended: &'a [PanelRow],
    pub segments: &'a [Segment],
    pub neurons: usize,
    /// Tokens of the batch.
    pub tokens: usize,
    pub chunks: Chunks,
    pub tasks: Tasks,
}

impl TokensStep<'_> {
    /// What each thread does to the residual stream, `[tokens, width]`.
    pub(super) fn run(&self, stream: Shared<'_, f32>, next: Option<NextNorm>, local: &mut Local) {
        for chunk in self.tasks.claim() {
            let (first, rows) = self.chunks.chunk(chunk);
            // SAFETY: each chunk goes to one thread.
            #[expect(unsafe_code, reason = "chunks of several threads are in one buffer")]
            let stream = unsafe { stream.part(first * self.width..(first + rows) * self.width) };
            if self.branches != Branches::Mlp {
                self.end_attention(first, rows, stream);
            }
            if self.branches == Branches::Attention {
                continue;
            }
            self.transform(rows, stream, local);
            if let Some(next) = next {
                next.run(self.set, self.width, stream, first, self.tokens, local);
            }
        }
    }

    fn end_attention(&self, first: usize, rows: usize, stream: &mut [f32]) {
        let end = self.ends.projection;
        let attended = Operand { data: self.attended, rows: self.tokens };
        let target = Target::Added { stream, width: self.width, scale: end.scale };
        let product = end.layer.product_with(end.bias, attended, rows, self.segments, target);
        self.set.run(Product { first_row: first, ..product });
    }

    /// Adds the MLP of the kept neurons.
    fn transform(&self, rows: usize, stream: &mut [f32], local: &mut Local) {
        self.set.run(Normalise {
            norm: &self.block.norm2,
            input: stream,
            width: self.width,
            row: &mut local.row,
            target: NormTarget::Panels { out: Shared::new(&mut local.normed), rows, first: 0 },
        });
        let (out, activation) = (Shared::new(&mut local.hidden), self.block.activation);
        let (panels_of_neuron, target) = if self.block.gated {
            (2, Target::Gated { out, rows, activation })
        } else {
            (1, Target::Activated { out, rows, activation })
        };
        self.set.run(self.block.up.product(
            Operand { data: &local.normed, rows },
            rows,
            0,
            panels_of_neuron * panels(self.neurons),
            &[Segment::prefix(self.width)],
            target,
        ));
        let end = self.ends.down;
        self.set.run(end.layer.product_with(
            end.bias,
            Operand { data: &local.hidden, rows },
            rows,
            &[Segment::prefix(self.neurons)],
            Target::Added { stream, width: self.width, scale: end.scale },
        ));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_have_all_that_is_wanted_and_fit_the_buffers(
            batch in 1_usize..9,
            tokens in 1_usize..300,
            wanted in 1_usize..4,
            all in any::<bool>(),
            threads in 1_usize..20,
        ) {
            let wanted = if all { tokens } else { wanted.min(tokens) };
            let chunks = Chunks::new(batch, tokens, wanted, threads);
            let mut found = Vec::new();
            for index in 0..chunks.count() {
                let (first, rows) = chunks.chunk(index);
                prop_assert!((1..=MOST_TOKENS).contains(&rows));
                found.extend(first..first + rows);
            }
            let expected = (0..batch * tokens).filter(|token| token % tokens < wanted);
            prop_assert_eq!(found, expected.collect::<Vec<_>>());
        }
    }
}
