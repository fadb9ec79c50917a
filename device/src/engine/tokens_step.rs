//! The second step of a block: what looks at each token alone, shared by the threads of a team.
//!
//! It is the end of the attention branch, the MLP, and the norm that the next step begins with. Where there are chunks
//! of tokens for all threads, a task is a chunk, which goes through all of it in buffers of its thread. Where there are
//! not, because few tokens are left, threads divide the outputs of each layer instead (`outputs_step`): chunks would be
//! so small that reading the weights, which each chunk does, would take longer than multiplying. Where a block merges
//! tokens between the two branches, they are run one after the other.

use super::block::PackedBlock;
use super::chunks::{Chunk, Chunks};
use super::correction::CorrectedBlock;
use super::matmul::{Operand, Product, Segment, Target};
use super::norm::{NormTarget, Normalise, PackedNorm};
use super::panel::{PanelRow, panels};
use super::shared::Shared;
use super::simd::InstructionSet;
use super::team::{Tasks, Team};
use super::workspace::Local;

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

impl Branches {
    pub(super) fn attention(self) -> bool {
        self != Self::Mlp
    }

    pub(super) fn mlp(self) -> bool {
        self != Self::Attention
    }
}

pub(super) struct TokensStep<'a> {
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
    /// The hidden layer of few chunks.
    pub hidden: Shared<'a, PanelRow>,
}

impl TokensStep<'_> {
    /// Changes the residual stream, `[tokens, width]`. The norm of the next step follows the MLP.
    pub(super) fn run(
        &self,
        branches: Branches,
        stream: Shared<'_, f32>,
        next: Option<NextNorm>,
        team: &mut Team,
        locals: &mut [Local],
    ) {
        if self.chunks.count() < team.threads() {
            return self.divide_outputs(branches, stream, next, team, locals);
        }
        let tasks = Tasks::new(self.chunks.count());
        team.run(locals, |_, local| {
            for index in tasks.claim() {
                let chunk = self.chunks.chunk(index);
                // SAFETY: each chunk goes to one thread.
                #[expect(unsafe_code, reason = "chunks of several threads are in one buffer")]
                let stream = unsafe { stream.part(chunk.of(self.width)) };
                self.run_chunk(branches, chunk, stream, next, local);
            }
        });
    }

    fn run_chunk(
        &self,
        branches: Branches,
        chunk: Chunk,
        stream: &mut [f32],
        next: Option<NextNorm>,
        local: &mut Local,
    ) {
        let Chunk { first, tokens: rows, .. } = chunk;
        let all = [0, panels(self.width)];
        if branches.attention() {
            self.project(chunk, all, Shared::new(stream));
        }
        if !branches.mlp() {
            return;
        }
        self.normalise(stream, local);
        let hidden = &mut local.hidden;
        self.up(rows, [0, panels(self.neurons)], &local.normed, Shared::new(hidden));
        self.down(rows, all, hidden, Shared::new(stream));
        if let Some(next) = next {
            next.run(self.set, self.width, stream, first, self.tokens, local);
        }
    }

    /// Adds some panels of what the heads found to the chunk's `stream`.
    pub(super) fn project(&self, chunk: Chunk, panels: [usize; 2], stream: Shared<'_, f32>) {
        let attended = Operand { data: self.attended, rows: self.tokens };
        let product = self.ends.projection.product(attended, chunk.tokens, panels, self.segments, stream, self.width);
        self.set.run(Product { first_row: chunk.first, ..product });
    }

    /// The norm before the MLP, of a chunk.
    pub(super) fn normalise(&self, stream: &[f32], local: &mut Local) {
        let rows = stream.len() / self.width;
        self.set.run(Normalise {
            norm: &self.block.norm2,
            input: stream,
            width: self.width,
            row: &mut local.row,
            target: NormTarget::Panels { out: Shared::new(&mut local.normed), rows, first: 0 },
        });
    }

    /// `count` panels of kept neurons from `first`, of `rows` normalised tokens.
    pub(super) fn up(
        &self,
        rows: usize,
        [first, count]: [usize; 2],
        normed: &[PanelRow],
        hidden: Shared<'_, PanelRow>,
    ) {
        let (out, activation) = (hidden.from(first * rows), self.block.activation);
        let (panels_of_neuron, target) = if self.block.gated {
            (2, Target::Gated { out, rows, activation })
        } else {
            (1, Target::Activated { out, rows, activation })
        };
        self.set.run(self.block.up.product(
            Operand { data: normed, rows },
            rows,
            panels_of_neuron * first,
            panels_of_neuron * count,
            &[Segment::prefix(self.width)],
            target,
        ));
    }

    /// Adds some panels of the MLP of `rows` tokens to their `stream`.
    pub(super) fn down(&self, rows: usize, panels: [usize; 2], hidden: &[PanelRow], stream: Shared<'_, f32>) {
        let kept = [Segment::prefix(self.neurons)];
        let hidden = Operand { data: hidden, rows };
        self.set.run(self.ends.down.product(hidden, rows, panels, &kept, stream, self.width));
    }
}
