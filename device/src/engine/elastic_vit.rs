//! The forward pass of any sub-network on weights that were packed once.

use std::fmt;

use headroom_shared::KeptStructures;

use super::block::PackedBlock;
use super::chunks::Chunks;
use super::correction::PackedCorrections;
use super::embedding::{EmbeddingStep, PackedEmbedding};
use super::error::EngineError;
use super::head::PackedHead;
use super::heads_step::{HeadsStep, Order, Progress};
use super::merge_step::MergeStep;
use super::norm::PackedNorm;
use super::pack::Tensors;
use super::panel::PanelRow;
use super::pooling::PackedPooling;
use super::rotary::Rotary;
use super::selection::head_segments;
use super::shared::Shared;
use super::simd::InstructionSet;
use super::sizes::Sizes;
use super::team::Tasks;
use super::tokens_step::{Branches, NextNorm, NormOutput, TokensStep};
use super::workspace::Workspace;
use crate::model::{Corrections, Description, Weights};

/// A Vision Transformer that runs at any size.
///
/// It is immutable: threads share one by reference, each with its own [`Workspace`].
#[derive(Clone)]
pub struct ElasticVit {
    instructions: InstructionSet,
    sizes: Sizes,
    embedding: PackedEmbedding,
    rotary: Option<Rotary>,
    blocks: Vec<PackedBlock>,
    corrections: Option<PackedCorrections>,
    final_norm: Option<PackedNorm>,
    pooling: PackedPooling,
    head: Option<PackedHead>,
}

/// What a forward pass computed, in the workspace.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// The tokens after the final norm, `[batch, tokens, embed_dim]`, a merged token in the place of each of its
    /// sources; after the last block where
    /// the model has no final norm of all tokens; empty after [`ElasticVit::embed`].
    pub tokens: &'a [f32],
    /// The image embeddings, `[batch, embed_dim]`.
    pub pooled: &'a [f32],
    /// `[batch, classes]`, where the model has a head. Of two classifiers, their mean.
    pub logits: Option<&'a [f32]>,
    /// `[batch, classes]` of each of two classifiers, where the head has two.
    pub two_classifiers: Option<TwoClassifiers<'a>>,
}

/// The logits of a distilled model's two classifiers, `[batch, classes]` each.
#[derive(Clone, Copy, Debug)]
pub struct TwoClassifiers<'a> {
    pub class: &'a [f32],
    pub distillation: &'a [f32],
}

/// Sizes only: the weights are millions of numbers.
impl fmt::Debug for ElasticVit {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let mut debug = formatter.debug_struct("ElasticVit");
        debug.field("instructions", &self.instructions()).field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

impl ElasticVit {
    /// Packs the weights for the best instructions of this processor.
    ///
    /// # Errors
    /// If a tensor is missing or has the wrong shape, or if the description contradicts itself.
    pub fn new(description: &Description, weights: &Weights) -> Result<Self, EngineError> {
        Self::with_instructions(description, weights, InstructionSet::best())
    }

    pub(super) fn with_instructions(
        description: &Description,
        weights: &Weights,
        instructions: InstructionSet,
    ) -> Result<Self, EngineError> {
        let tensors = Tensors { weights };
        let sizes = Sizes::new(description, tensors)?;
        let mut blocks = Vec::with_capacity(sizes.depth);
        for block in &description.blocks {
            blocks.push(PackedBlock::new(block, description.activation, tensors, &sizes)?);
        }
        let final_norm = description.final_norm.as_ref();
        Ok(Self {
            instructions,
            sizes,
            embedding: PackedEmbedding::new(description, tensors, &sizes)?,
            rotary: Rotary::new(description),
            blocks,
            corrections: None,
            final_norm: final_norm.map(|norm| PackedNorm::new(tensors, norm, sizes.embed_dim)).transpose()?,
            pooling: PackedPooling::new(&description.pooling, tensors, &sizes)?,
            head: description.head.as_ref().map(|head| PackedHead::new(head, tensors, &sizes)).transpose()?,
        })
    }

    /// The same model with corrections that a selection can name ([`Corrected`](super::Corrected)).
    ///
    /// # Errors
    /// If they are not those of a model of these sizes.
    pub fn with_corrections(mut self, corrections: &Corrections) -> Result<Self, EngineError> {
        self.corrections = Some(PackedCorrections::new(corrections, &self.sizes)?);
        Ok(self)
    }

    /// Buffers for batches of up to `max_batch` images (at least 1) of the dense model, for passes
    /// on the calling thread alone.
    #[must_use]
    pub fn workspace(&self, max_batch: usize) -> Workspace {
        self.workspace_with_threads(max_batch, 1)
    }

    /// As [`workspace`](Self::workspace), for passes that `threads` threads share, the calling one
    /// counted (at least 1; fewer where the system starts no more, see [`Workspace::threads`]).
    ///
    /// Any number of threads gives the same bits. More threads than free cores make passes slower.
    #[must_use]
    pub fn workspace_with_threads(&self, max_batch: usize, threads: usize) -> Workspace {
        let two_classifiers = matches!(self.head, Some(PackedHead::AverageOfTwo { .. }));
        Workspace::new(self.sizes, max_batch.max(1), threads.max(1), two_classifiers)
    }

    /// Runs the structures in `kept` on `batch` images; allocates nothing.
    ///
    /// `pixels` are normalised, `[batch, channels, height, width]`. An image gives the same bits
    /// alone and in a batch, and kept structures the same as weights that were physically cut.
    ///
    /// # Errors
    /// If the batch, the pixels, the selection or the workspace do not fit the model. Nothing was computed then.
    pub fn forward<'a>(
        &self,
        workspace: &'a mut Workspace,
        pixels: &[f32],
        batch: usize,
        kept: &impl KeptStructures,
    ) -> Result<Output<'a>, EngineError> {
        self.forward_observed(workspace, pixels, batch, kept, |_, _| {})
    }

    /// [`forward`](Self::forward), showing the hidden states `[batch, tokens, embed_dim]` to
    /// `observer`: 0 is the input of block 0, `n` the output of block `n - 1`. Once blocks have
    /// merged tokens, only those that are left are shown, in their order.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_observed<'a>(
        &self,
        workspace: &'a mut Workspace,
        pixels: &[f32],
        batch: usize,
        kept: &impl KeptStructures,
        observer: impl FnMut(usize, &[f32]),
    ) -> Result<Output<'a>, EngineError> {
        self.run(workspace, pixels, batch, kept, self.sizes.tokens, observer)
    }

    /// [`forward`](Self::forward) for those who read the image embedding or the classes, and not
    /// the tokens: the last block is spared the tokens that pooling and head do not read, which are
    /// most where they read the class token. The result has the same bits, and no tokens.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn embed<'a>(
        &self,
        workspace: &'a mut Workspace,
        pixels: &[f32],
        batch: usize,
        kept: &impl KeptStructures,
    ) -> Result<Output<'a>, EngineError> {
        let of_head = self.head.as_ref().map_or(0, |head| head.tokens_read(&self.sizes));
        let read = self.pooling.tokens_read(&self.sizes).max(of_head);
        Ok(Output { tokens: &[], ..self.run(workspace, pixels, batch, kept, read, |_, _| {})? })
    }

    /// A pass whose last block computes the first `last` tokens of each image.
    fn run<'a>(
        &self,
        workspace: &'a mut Workspace,
        pixels: &[f32],
        batch: usize,
        kept: &impl KeptStructures,
        last: usize,
        mut observer: impl FnMut(usize, &[f32]),
    ) -> Result<Output<'a>, EngineError> {
        self.check(workspace, pixels, batch)?;
        workspace.selection.read(kept, self.corrections.as_ref().map_or(0, PackedCorrections::count))?;
        self.start(workspace, pixels, batch);
        let values = |tokens: usize| batch * tokens * self.sizes.embed_dim;
        let mut tokens = self.sizes.tokens;
        if workspace.selection.merges() {
            workspace.groups.start(&self.sizes, batch);
        }
        observer(0, &workspace.stream[..values(tokens)]);
        for index in 0..self.blocks.len() {
            let ends_early = index + 1 == self.blocks.len() && last < self.sizes.tokens;
            let wanted = if ends_early { last } else { tokens };
            tokens = self.run_block(workspace, batch, index, tokens, wanted);
            observer(index + 1, &workspace.stream[..values(tokens)]);
        }
        Ok(self.finish(workspace, batch, tokens))
    }

    /// Fills the stream, and the normalised tokens for block 0.
    fn start(&self, workspace: &mut Workspace, pixels: &[f32], batch: usize) {
        let Workspace { stream, tokens, scratch, locals, team, .. } = workspace;
        let parts = EmbeddingStep::parts(&self.sizes, batch, team.threads());
        let step = EmbeddingStep {
            set: self.instructions,
            sizes: &self.sizes,
            batch,
            pixels,
            stream: Shared::new(stream),
            next: self.norm_before(0, &mut scratch.normed, tokens),
            parts,
            tasks: Tasks::new(batch * parts),
        };
        team.run(locals, |_, local| self.embedding.embed(&step, local));
    }

    /// The norm of the tokens that go into block `index`, or out of the last one.
    fn norm_before<'a>(
        &'a self,
        index: usize,
        normed: &'a mut [PanelRow],
        tokens: &'a mut [f32],
    ) -> Option<NextNorm<'a>> {
        if let Some(block) = self.blocks.get(index) {
            return Some(NextNorm { norm: &block.norm1, output: NormOutput::Panels(Shared::new(normed)) });
        }
        let norm = self.final_norm.as_ref()?;
        Some(NextNorm { norm, output: NormOutput::Rows(Shared::new(tokens)) })
    }

    /// Runs a block for the first `wanted` of each image's `tokens`; returns how many it leaves.
    fn run_block(&self, workspace: &mut Workspace, batch: usize, index: usize, tokens: usize, wanted: usize) -> usize {
        let Workspace { selection, stream, tokens: other, groups, scratch, locals, team, .. } = workspace;
        // Where only the first tokens are wanted, they are prefix tokens, which are never merged.
        let merged = if wanted < tokens { 0 } else { selection.merged_tokens(index) };
        let (sizes, block) = (&self.sizes, &self.blocks[index]);
        let (heads, dims) = (selection.heads(index), selection.dims(index));
        let order = Order::new(team.threads(), heads.len(), batch, sizes.tokens);
        scratch.progress.fill_with(Progress::default);
        let step = HeadsStep {
            set: self.instructions,
            sizes,
            block,
            rotary: self.rotary.as_ref(),
            heads,
            dims,
            batch,
            tokens,
            log_sizes: (tokens < sizes.tokens).then_some(groups.log_sizes.as_slice()),
            keys: (merged > 0).then(|| Shared::new(&mut scratch.keys)),
            wanted,
            normed: &scratch.normed,
            attended: Shared::new(&mut scratch.attended),
            slots: Shared::new(&mut scratch.slots),
            progress: &scratch.progress,
            order,
            tasks: Tasks::new(order.tasks()),
        };
        team.run(locals, |member, local| step.run(&member, local));

        head_segments(heads, sizes.head_dim, dims.value, &mut scratch.segments);
        let ends = match (&self.corrections, selection.correction()) {
            (Some(corrections), Some(correction)) => corrections.block(correction, index),
            _ => block.ends(),
        };
        let (attended, segments, neurons) = (&scratch.attended, &scratch.segments, selection.neurons(index));
        let set = self.instructions;
        let hidden = Shared::new(&mut scratch.hidden);
        let step = |tokens, wanted, threads| TokensStep {
            set,
            width: sizes.embed_dim,
            block,
            ends,
            attended,
            segments,
            neurons,
            tokens: batch * tokens,
            chunks: Chunks::new(batch, tokens, wanted, threads),
            hidden,
        };
        if merged == 0 {
            let next = self.norm_before(index + 1, &mut scratch.normed, other);
            let step = step(tokens, wanted, team.threads());
            step.run(Branches::Both, Shared::new(stream), next, team, locals);
            return tokens;
        }
        step(tokens, wanted, team.threads()).run(Branches::Attention, Shared::new(stream), None, team, locals);
        let merge = MergeStep {
            set,
            sizes,
            batch,
            tokens,
            merged,
            heads: heads.len(),
            query_dims: dims.query,
            keys: &scratch.keys,
            stream,
            out: Shared::new(other),
            groups: groups.share(),
            scratch: scratch.merge.share(),
        };
        merge.run(team, locals);
        std::mem::swap(stream, other);
        let left = tokens - merged;
        let next = self.norm_before(index + 1, &mut scratch.normed, other);
        step(left, left, team.threads()).run(Branches::Mlp, Shared::new(stream), next, team, locals);
        left
    }

    /// Pooling and head, of images with so many `tokens` left.
    fn finish<'a>(&self, workspace: &'a mut Workspace, batch: usize, tokens: usize) -> Output<'a> {
        let Workspace { sizes, stream, tokens: normed, groups, pooled, logits, scratch, locals, .. } = workspace;
        let (left, free) = if self.final_norm.is_some() { (normed, stream) } else { (stream, normed) };
        let tokens = if tokens < sizes.tokens {
            groups.copy_back(sizes, batch, tokens, left, free);
            free
        } else {
            left
        };
        let tokens = &tokens[..batch * sizes.image_values()];
        let pooled = &mut pooled[..batch * sizes.embed_dim];
        self.pooling.pool(self.instructions, sizes, tokens, pooled, scratch, &mut locals[0]);
        let Some(head) = &self.head else {
            return Output { tokens, pooled, logits: None, two_classifiers: None };
        };
        head.classify(self.instructions, sizes, tokens, pooled, logits, scratch);
        let two = matches!(head, PackedHead::AverageOfTwo { .. });
        let [logits, class, distillation] = logits;
        let classes = batch * sizes.classes;
        let two_classifiers =
            two.then(|| TwoClassifiers { class: &class[..classes], distillation: &distillation[..classes] });
        Output { tokens, pooled, logits: Some(&logits[..classes]), two_classifiers }
    }

    fn check(&self, workspace: &Workspace, pixels: &[f32], batch: usize) -> Result<(), EngineError> {
        if workspace.sizes != self.sizes {
            return Err(EngineError::Workspace);
        }
        if batch == 0 || batch > workspace.max_batch {
            return Err(EngineError::Batch { most: workspace.max_batch, found: batch });
        }
        let expected = batch * self.sizes.pixels();
        if pixels.len() != expected {
            return Err(EngineError::Pixels { batch, expected, found: pixels.len() });
        }
        Ok(())
    }

    /// The instructions that the kernels use, such as `AVX-512`.
    #[must_use]
    pub fn instructions(&self) -> &'static str {
        self.instructions.name()
    }

    /// Transformer blocks.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.sizes.depth
    }

    /// Width of a token and of an image embedding.
    #[must_use]
    pub fn embed_dim(&self) -> usize {
        self.sizes.embed_dim
    }

    /// Tokens of an image.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.sizes.tokens
    }

    /// Pixel values of an image: channels x height x width.
    #[must_use]
    pub fn pixels(&self) -> usize {
        self.sizes.pixels()
    }

    /// Outputs of the head, if the model has one.
    #[must_use]
    pub fn classes(&self) -> Option<usize> {
        self.head.is_some().then_some(self.sizes.classes)
    }
}
