//! From pixels to the input of block 0.

use super::chunks::{MOST_TOKENS, even_chunks};
use super::error::EngineError;
use super::matmul::{Operand, Segment, Target};
use super::norm::{PackedNorm, normalise_in_place};
use super::pack::{PackedLinear, Tensors};
use super::panel::{PANEL, PanelRow, even_part};
use super::shared::Shared;
use super::simd::InstructionSet;
use super::sizes::Sizes;
use super::team::Tasks;
use super::tokens_step::NextNorm;
use super::workspace::Local;
use crate::model::Description;
use crate::model::description::Position;
use crate::model::position::learned_positions;

#[derive(Clone, Debug)]
pub(super) struct PackedEmbedding {
    patch: PackedLinear,
    /// What a row of tokens is before the patches are added: prefix tokens and all positions,
    /// `[tokens, embed_dim]`.
    tokens: Vec<f32>,
    norm: Option<PackedNorm>,
}

impl PackedEmbedding {
    pub(super) fn new(description: &Description, tensors: Tensors, sizes: &Sizes) -> Result<Self, EngineError> {
        let width = sizes.embed_dim;
        let embedding = &description.embedding;
        let mut tokens = Vec::with_capacity(sizes.image_values());
        for prefix in &embedding.prefix {
            tokens.extend_from_slice(tensors.flat(&prefix.tensor, prefix.count * width)?);
        }
        tokens.resize(sizes.image_values(), 0.0);
        if let Position::Learned { tensor, prefix_positions, grid, .. } = &embedding.position {
            tensors.flat(tensor, (prefix_positions + grid.0 * grid.1) * width)?;
            let positions = learned_positions(description, tensors.weights)?.unwrap_or_default();
            let (prefix, patches) = positions.split_at(prefix_positions * width);
            add(&mut tokens, prefix);
            add(&mut tokens[sizes.prefix_tokens * width..], patches);
        }
        Ok(Self {
            patch: PackedLinear::new(tensors.linear(&embedding.patch, width, sizes.patch_values())?),
            tokens,
            norm: embedding.norm.as_ref().map(|norm| PackedNorm::new(tensors, norm, width)).transpose()?,
        })
    }

    /// What each thread does to fill the stream with the embedded images.
    pub(super) fn embed(&self, step: &EmbeddingStep, local: &mut Local) {
        let EmbeddingStep { set, sizes, pixels, stream, .. } = *step;
        let width = sizes.embed_dim;
        for task in step.tasks.claim() {
            let (image, part) = (task / step.parts, task % step.parts);
            let (first, count) = even_part(sizes.patches(), step.parts, part);
            // The prefix tokens go with the first patches.
            let prefix = if part == 0 { sizes.prefix_tokens } else { 0 };
            let first_token = sizes.prefix_tokens - prefix + first;
            let tokens = first_token * width..(first_token + prefix + count) * width;
            let start = image * sizes.image_values();
            // SAFETY: each task goes to one thread.
            #[expect(unsafe_code, reason = "patches of several threads go to one buffer")]
            let stream = unsafe { stream.part(start + tokens.start..start + tokens.end) };
            stream.copy_from_slice(&self.tokens[tokens]);
            let image_pixels = &pixels[image * sizes.pixels()..][..sizes.pixels()];
            gather_patches(sizes, image_pixels, first, count, &mut local.patches);
            set.run(self.patch.product(
                Operand { data: &local.patches, rows: count },
                count,
                0,
                self.patch.panels(),
                &[Segment::prefix(sizes.patch_values())],
                Target::added(&mut stream[prefix * width..], width),
            ));
            if let Some(norm) = &self.norm {
                normalise_in_place(set, norm, width, stream, &mut local.row, &mut local.normed);
            }
            if let Some(next) = step.next {
                let tokens = step.batch * sizes.tokens;
                next.run(set, width, stream, image * sizes.tokens + first_token, tokens, local);
            }
        }
    }
}

/// The embedding of a batch, shared by the threads of a team: a task is some patches of an image.
pub(super) struct EmbeddingStep<'a> {
    pub set: InstructionSet,
    pub sizes: &'a Sizes,
    pub batch: usize,
    pub pixels: &'a [f32],
    pub stream: Shared<'a, f32>,
    pub next: Option<NextNorm<'a>>,
    /// Tasks of an image.
    pub parts: usize,
    pub tasks: Tasks,
}

impl EmbeddingStep<'_> {
    /// The tasks that an image is divided into.
    pub(super) fn parts(sizes: &Sizes, batch: usize, threads: usize) -> usize {
        let patches = batch * sizes.patches();
        let parts = even_chunks(patches, threads).max(threads.min(patches)).div_ceil(batch);
        parts.max(sizes.patches().div_ceil(MOST_TOKENS))
    }
}

fn add(to: &mut [f32], values: &[f32]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
}

/// Brings the pixels of each of `count` patches into one row, in the order of the weight: channel, row, column.
fn gather_patches(sizes: &Sizes, image: &[f32], first: usize, count: usize, out: &mut [PanelRow]) {
    let Sizes { height, width, patch, grid, .. } = *sizes;
    for line in 0..sizes.channels * patch {
        let (channel, y) = (line / patch, line % patch);
        for row in 0..count {
            let (patch_row, patch_column) = ((first + row) / grid.1, (first + row) % grid.1);
            let start = (channel * height + patch_row * patch + y) * width + patch_column * patch;
            copy_to_row(&image[start..start + patch], line * patch, &mut out[row..], count);
        }
    }
}

/// Writes `values` from `column` on to a row in panels that are `rows` apart.
fn copy_to_row(mut values: &[f32], mut column: usize, row: &mut [PanelRow], rows: usize) {
    while !values.is_empty() {
        let lane = column % PANEL;
        let (now, later) = values.split_at(values.len().min(PANEL - lane));
        row[column / PANEL * rows].0[lane..lane + now.len()].copy_from_slice(now);
        column += now.len();
        values = later;
    }
}
