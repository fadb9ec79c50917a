//! From pixels to the input of block 0.

use super::error::EngineError;
use super::matmul::{Operand, Segment, Target};
use super::norm::{NormTarget, Normalise, PackedNorm};
use super::pack::{PackedLinear, Tensors};
use super::panel::{PANEL, PanelRow};
use super::simd::InstructionSet;
use super::sizes::Sizes;
use super::workspace::Workspace;
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

    /// Fills the stream with the embedded images.
    pub(super) fn embed(&self, set: InstructionSet, workspace: &mut Workspace, pixels: &[f32]) {
        let sizes = workspace.sizes;
        let patches = &mut workspace.scratch.patches;
        let images = pixels.chunks_exact(sizes.pixels());
        for (image, stream) in images.zip(workspace.stream.chunks_exact_mut(sizes.image_values())) {
            stream.copy_from_slice(&self.tokens);
            gather_patches(&sizes, image, patches);
            set.run(self.patch.product(
                Operand { data: patches, rows: sizes.patches() },
                sizes.patches(),
                0,
                self.patch.panels(),
                &[Segment::prefix(sizes.patch_values())],
                Target::Added {
                    stream: &mut stream[sizes.prefix_tokens * sizes.embed_dim..],
                    width: sizes.embed_dim,
                    scale: None,
                },
            ));
        }
        if let Some(norm) = &self.norm {
            let values = pixels.len() / sizes.pixels() * sizes.image_values();
            set.run(Normalise {
                norm,
                input: &workspace.stream[..values],
                width: sizes.embed_dim,
                row: &mut workspace.scratch.row,
                target: NormTarget::Rows(&mut workspace.tokens),
            });
            std::mem::swap(&mut workspace.stream, &mut workspace.tokens);
        }
    }
}

fn add(to: &mut [f32], values: &[f32]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
}

/// Brings the pixels of each patch into one row, in the order of the weight: channel, row, column.
fn gather_patches(sizes: &Sizes, image: &[f32], out: &mut [PanelRow]) {
    let Sizes { height, width, patch, grid, .. } = *sizes;
    let patches = sizes.patches();
    for line in 0..sizes.channels * patch {
        let (channel, y) = (line / patch, line % patch);
        for patch_row in 0..grid.0 {
            let pixels = &image[(channel * height + patch_row * patch + y) * width..][..grid.1 * patch];
            for (patch_column, pixels) in pixels.chunks_exact(patch).enumerate() {
                let row = patch_row * grid.1 + patch_column;
                copy_to_row(pixels, line * patch, &mut out[row..], patches);
            }
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
