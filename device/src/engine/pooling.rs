//! From the tokens after the last block to the image embedding.
//!
//! Merged tokens are copied back to their sources before: means and attention over the copies weigh
//! a token by its size.

use super::attention::{HeadAttention, transpose};
use super::error::EngineError;
use super::matmul::{Operand, Segment, Target};
use super::norm::{NormTarget, Normalise, PackedNorm, normalise_in_place};
use super::pack::{LinearTensors, PackedLinear, Tensors};
use super::panel::{PanelRow, pack_row, panels, write_row};
use super::selection::head_segments;
use super::shared::Shared;
use super::simd::InstructionSet;
use super::sizes::Sizes;
use super::workspace::{Local, Scratch};
use crate::model::description::{Activation, Pooling};

#[derive(Clone, Debug)]
pub(super) enum PackedPooling {
    Class,
    ClassThenNorm(PackedNorm),
    ClassDenseTanh(PackedLinear),
    MeanClassDistillation,
    MeanPatches,
    MeanPatchesThenNorm(PackedNorm),
    Attention(Box<AttentionPooling>),
}

impl PackedPooling {
    pub(super) fn new(pooling: &Pooling, tensors: Tensors, sizes: &Sizes) -> Result<Self, EngineError> {
        let width = sizes.embed_dim;
        Ok(match pooling {
            Pooling::Class => Self::Class,
            Pooling::ClassThenNorm { norm } => Self::ClassThenNorm(PackedNorm::new(tensors, norm, width)?),
            Pooling::ClassDenseTanh { dense } => {
                Self::ClassDenseTanh(PackedLinear::new(tensors.linear(dense, width, width)?))
            }
            Pooling::MeanClassDistillation => Self::MeanClassDistillation,
            Pooling::MeanPatches => Self::MeanPatches,
            Pooling::MeanPatchesThenNorm { norm } => Self::MeanPatchesThenNorm(PackedNorm::new(tensors, norm, width)?),
            Pooling::Attention { .. } => Self::Attention(Box::new(AttentionPooling::new(pooling, tensors, sizes)?)),
        })
    }

    /// The first tokens of each image, as many, that are read.
    pub(super) fn tokens_read(&self, sizes: &Sizes) -> usize {
        match self {
            Self::Class | Self::ClassThenNorm(_) | Self::ClassDenseTanh(_) => 1,
            Self::MeanClassDistillation => 2,
            Self::MeanPatches | Self::MeanPatchesThenNorm(_) | Self::Attention(_) => sizes.tokens,
        }
    }

    /// Fills `pooled`, `[batch, embed_dim]`, from `tokens`, `[batch, tokens, embed_dim]`.
    pub(super) fn pool(
        &self,
        set: InstructionSet,
        sizes: &Sizes,
        tokens: &[f32],
        pooled: &mut [f32],
        scratch: &mut Scratch,
        local: &mut Local,
    ) {
        let width = sizes.embed_dim;
        let batch = pooled.len() / width;
        match self {
            Self::Class | Self::ClassThenNorm(_) => mean_tokens(sizes, tokens, 0, 1, pooled),
            Self::MeanClassDistillation => mean_tokens(sizes, tokens, 0, 2, pooled),
            Self::MeanPatches | Self::MeanPatchesThenNorm(_) => mean_patches(sizes, tokens, pooled),
            Self::ClassDenseTanh(dense) => {
                for (image, tokens) in tokens.chunks_exact(sizes.image_values()).enumerate() {
                    write_row(&mut scratch.normed, batch, image, &tokens[..width]);
                }
                pooled.fill(0.0);
                set.run(dense.product(
                    Operand { data: &scratch.normed, rows: batch },
                    batch,
                    0,
                    dense.panels(),
                    &[Segment::prefix(width)],
                    Target::added(pooled, width),
                ));
                pooled.iter_mut().for_each(|value| *value = value.tanh());
            }
            Self::Attention(attention) => attention.pool(set, sizes, tokens, pooled, scratch, local),
        }
        if let Self::ClassThenNorm(norm) | Self::MeanPatchesThenNorm(norm) = self {
            normalise_in_place(set, norm, width, pooled, &mut local.row, &mut local.normed);
        }
    }
}

/// The mean of the patch tokens of each image.
pub(super) fn mean_patches(sizes: &Sizes, tokens: &[f32], out: &mut [f32]) {
    mean_tokens(sizes, tokens, sizes.prefix_tokens, sizes.patches(), out);
}

/// The mean of `count` tokens of each image, from token `first`.
fn mean_tokens(sizes: &Sizes, tokens: &[f32], first: usize, count: usize, out: &mut [f32]) {
    let width = sizes.embed_dim;
    let images = tokens.chunks_exact(sizes.image_values());
    for (out, tokens) in out.chunks_exact_mut(width).zip(images) {
        out.fill(0.0);
        for token in tokens[first * width..(first + count) * width].chunks_exact(width) {
            out.iter_mut().zip(token).for_each(|(sum, value)| *sum += value);
        }
        out.iter_mut().for_each(|sum| *sum /= count as f32);
    }
}

/// A learned query attends to all tokens, then an MLP: SigLIP.
#[derive(Clone, Debug)]
pub(super) struct AttentionPooling {
    /// The query is the same for every image: computed once, one row in panels for each head.
    queries: Vec<PanelRow>,
    /// For each head its key and value panels.
    heads: PackedLinear,
    out: PackedLinear,
    norm: PackedNorm,
    up: PackedLinear,
    down: PackedLinear,
    activation: Activation,
    all_heads: Vec<usize>,
}

impl AttentionPooling {
    fn new(pooling: &Pooling, tensors: Tensors, sizes: &Sizes) -> Result<Self, EngineError> {
        let Pooling::Attention { probe, heads, query, key, value, out, norm, up, down, activation } = pooling else {
            unreachable!("made for attention pooling only")
        };
        let width = sizes.embed_dim;
        let head_dim = sizes.pooling_head_dim();
        let probe = tensors.flat(probe, width)?;
        let query = tensors.linear(query, width, width)?;
        let [key, value] = [tensors.linear(key, width, width)?, tensors.linear(value, width, width)?];
        let mut packed = PackedLinear::with_capacity(width, heads * 2 * panels(head_dim));
        let mut queries = Vec::with_capacity(heads * panels(head_dim));
        for head in 0..*heads {
            let first = head * head_dim;
            queries.extend(pack_row(&apply(query.outputs(first, head_dim), probe)));
            packed.push(key.outputs(first, head_dim));
            packed.push(value.outputs(first, head_dim));
        }
        Ok(Self {
            queries,
            heads: packed,
            out: PackedLinear::new(tensors.linear(out, width, width)?),
            norm: PackedNorm::new(tensors, norm, width)?,
            up: PackedLinear::new(tensors.linear(up, sizes.pooling_neurons, width)?),
            down: PackedLinear::new(tensors.linear(down, width, sizes.pooling_neurons)?),
            activation: *activation,
            all_heads: (0..*heads).collect(),
        })
    }

    fn pool(
        &self,
        set: InstructionSet,
        sizes: &Sizes,
        tokens: &[f32],
        pooled: &mut [f32],
        scratch: &mut Scratch,
        local: &mut Local,
    ) {
        let width = sizes.embed_dim;
        let batch = pooled.len() / width;
        for (image, tokens) in tokens.chunks_exact(sizes.image_values()).enumerate() {
            for (row, token) in tokens.chunks_exact(width).enumerate() {
                write_row(&mut scratch.normed, sizes.tokens, row, token);
            }
            self.attend(set, sizes, image, batch, scratch, local);
        }
        pooled.fill(0.0);
        let head_dim = sizes.pooling_head_dim();
        head_segments(&self.all_heads, head_dim, head_dim, &mut scratch.segments);
        set.run(self.out.product(
            Operand { data: &scratch.attended, rows: batch },
            batch,
            0,
            self.out.panels(),
            &scratch.segments,
            Target::added(pooled, width),
        ));
        set.run(Normalise {
            norm: &self.norm,
            input: pooled,
            width,
            row: &mut local.row,
            target: NormTarget::Panels { out: Shared::new(&mut scratch.normed), rows: batch, first: 0 },
        });
        set.run(self.up.product(
            Operand { data: &scratch.normed, rows: batch },
            batch,
            0,
            self.up.panels(),
            &[Segment::prefix(width)],
            Target::Activated { out: Shared::new(&mut local.hidden), rows: batch, activation: self.activation },
        ));
        set.run(self.down.product(
            Operand { data: &local.hidden, rows: batch },
            batch,
            0,
            self.down.panels(),
            &[Segment::prefix(sizes.pooling_neurons)],
            Target::added(pooled, width),
        ));
    }

    /// Computes row `image` of `scratch.attended` from the image's tokens in `scratch.normed`.
    fn attend(
        &self,
        set: InstructionSet,
        sizes: &Sizes,
        image: usize,
        batch: usize,
        scratch: &mut Scratch,
        local: &mut Local,
    ) {
        let (tokens, head_dim) = (sizes.tokens, sizes.pooling_head_dim());
        let head_panels = panels(head_dim);
        for (head, queries) in self.queries.chunks_exact(head_panels).enumerate() {
            set.run(self.heads.product(
                Operand { data: &scratch.normed, rows: tokens },
                tokens,
                head * 2 * head_panels,
                2 * head_panels,
                &[Segment::prefix(sizes.embed_dim)],
                Target::Panels { out: Shared::new(&mut scratch.slots), rows: tokens },
            ));
            let (keys, values) = scratch.slots.split_at(head_panels * tokens);
            transpose(Operand { data: keys, rows: tokens }, 0, tokens, head_dim, &mut local.keys);
            set.run(HeadAttention {
                queries: Operand { data: queries, rows: 1 },
                first_query: 0,
                query_count: 1,
                keys: Operand { data: &local.keys, rows: head_dim },
                values: Operand { data: values, rows: tokens },
                first_value: 0,
                tokens,
                query_dims: head_dim,
                value_dims: head_dim,
                scale: (head_dim as f32).sqrt().recip(),
                log_sizes: None,
                scores: &mut local.scores,
                out: Shared::new(&mut scratch.attended),
                first_panel: head * head_panels,
                out_rows: batch,
                first_out: image,
            });
        }
    }
}

/// One row through a layer, in f64: the query of the pooling, once at load.
fn apply(linear: LinearTensors, input: &[f32]) -> Vec<f32> {
    let dot = |weights: &[f32]| -> f64 { weights.iter().zip(input).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum() };
    let products = linear.weight.chunks_exact(input.len()).map(dot);
    let biases = (0..).map(|output| linear.bias.map_or(0.0, |bias| f64::from(bias[output])));
    products.zip(biases).map(|(product, bias)| (product + bias) as f32).collect()
}
