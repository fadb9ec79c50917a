//! From the image embedding to the classes.

use super::error::EngineError;
use super::matmul::{Operand, Segment, Target};
use super::pack::{PackedLinear, Tensors};
use super::panel::{PanelRow, write_row};
use super::pooling::mean_patches;
use super::simd::InstructionSet;
use super::sizes::Sizes;
use super::workspace::Scratch;
use crate::model::description::Head;

#[derive(Clone, Debug)]
pub(super) enum PackedHead {
    Linear(PackedLinear),
    ClassAndPatchMean(PackedLinear),
    AverageOfTwo { class: PackedLinear, distillation: PackedLinear },
}

impl PackedHead {
    pub(super) fn new(head: &Head, tensors: Tensors, sizes: &Sizes) -> Result<Self, EngineError> {
        let width = sizes.embed_dim;
        let pack =
            |linear, inputs| Ok::<_, EngineError>(PackedLinear::new(tensors.linear(linear, sizes.classes, inputs)?));
        Ok(match head {
            Head::Linear { linear } => Self::Linear(pack(linear, width)?),
            Head::ClassAndPatchMean { linear } => Self::ClassAndPatchMean(pack(linear, 2 * width)?),
            Head::AverageOfTwo { class, distillation } => {
                Self::AverageOfTwo { class: pack(class, width)?, distillation: pack(distillation, width)? }
            }
        })
    }

    /// The first tokens of each image, as many, that are read beside the image embedding.
    pub(super) fn tokens_read(&self, sizes: &Sizes) -> usize {
        match self {
            Self::Linear(_) => 0,
            Self::AverageOfTwo { .. } => 2,
            Self::ClassAndPatchMean(_) => sizes.tokens,
        }
    }

    /// Fills the logits; the second and third only where there are two classifiers.
    pub(super) fn classify(
        &self,
        set: InstructionSet,
        sizes: &Sizes,
        tokens: &[f32],
        pooled: &[f32],
        logits: &mut [Vec<f32>; 3],
        scratch: &mut Scratch,
    ) {
        let width = sizes.embed_dim;
        let batch = pooled.len() / width;
        let images = || tokens.chunks_exact(sizes.image_values());
        let [logits, class_logits, distillation_logits] = logits;
        let rows = &mut scratch.normed[..];
        match self {
            Self::Linear(linear) => {
                for (image, pooled) in pooled.chunks_exact(width).enumerate() {
                    write_row(rows, batch, image, pooled);
                }
                multiply(set, linear, batch, rows, logits);
            }
            Self::ClassAndPatchMean(linear) => {
                for (image, (tokens, joined)) in images().zip(scratch.joined.chunks_exact_mut(2 * width)).enumerate() {
                    let (class, mean) = joined.split_at_mut(width);
                    class.copy_from_slice(&tokens[..width]);
                    mean_patches(sizes, tokens, mean);
                    write_row(rows, batch, image, joined);
                }
                multiply(set, linear, batch, rows, logits);
            }
            Self::AverageOfTwo { class, distillation } => {
                for (token, linear, out) in [(0, class, &mut *class_logits), (1, distillation, distillation_logits)] {
                    for (image, tokens) in images().enumerate() {
                        write_row(rows, batch, image, &tokens[token * width..(token + 1) * width]);
                    }
                    multiply(set, linear, batch, rows, out);
                }
                for (mean, (a, b)) in logits.iter_mut().zip(class_logits.iter().zip(&*distillation_logits)) {
                    *mean = (a + b) / 2.0;
                }
            }
        }
    }
}

/// `logits = rows linear`, for `batch` rows.
fn multiply(set: InstructionSet, linear: &PackedLinear, batch: usize, rows: &[PanelRow], logits: &mut [f32]) {
    let classes = linear.outputs();
    let logits = &mut logits[..batch * classes];
    logits.fill(0.0);
    set.run(linear.product(
        Operand { data: rows, rows: batch },
        batch,
        0,
        linear.panels(),
        &[Segment::prefix(linear.inputs())],
        Target::added(logits, classes),
    ));
}
