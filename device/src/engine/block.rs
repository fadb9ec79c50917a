//! One transformer block on packed weights: the attention branch and the MLP branch.

use super::attention::{HeadAttention, transpose};
use super::correction::{BranchEnd, CorrectedBlock};
use super::error::EngineError;
use super::matmul::{Operand, Segment, Target};
use super::norm::{NormTarget, Normalise, PackedNorm};
use super::pack::{PackedLinear, Tensors, pack_vector};
use super::panel::{PANEL, PanelRow, even_parts, panels};
use super::rotary::Rotary;
use super::selection::{HeadDims, head_segments};
use super::simd::InstructionSet;
use super::sizes::Sizes;
use super::workspace::{MLP_ROWS, Scratch, images_together};
use crate::model::description::{Activation, Block, Linear, Mlp};

#[derive(Clone, Debug)]
pub(super) struct PackedBlock {
    norm1: PackedNorm,
    /// For each head its query, key and value panels.
    heads: PackedLinear,
    projection: PackedLinear,
    layer_scale1: Option<Vec<PanelRow>>,
    norm2: PackedNorm,
    /// Neurons; in a gated MLP a panel of gates, then the panel that they gate, in turns.
    up: PackedLinear,
    gated: bool,
    down: PackedLinear,
    activation: Activation,
    layer_scale2: Option<Vec<PanelRow>>,
}

impl PackedBlock {
    pub(super) fn new(
        block: &Block,
        activation: Activation,
        tensors: Tensors,
        sizes: &Sizes,
    ) -> Result<Self, EngineError> {
        let width = sizes.embed_dim;
        let attended = sizes.heads * sizes.head_dim;
        let down = match &block.mlp {
            Mlp::Plain { down, .. } | Mlp::Gated { down, .. } => down,
        };
        Ok(Self {
            norm1: PackedNorm::new(tensors, &block.norm1, width)?,
            heads: pack_heads([&block.query, &block.key, &block.value], tensors, sizes)?,
            projection: PackedLinear::new(tensors.linear(&block.projection, width, attended)?),
            layer_scale1: pack_vector(tensors, block.layer_scale1.as_ref(), width)?,
            norm2: PackedNorm::new(tensors, &block.norm2, width)?,
            up: pack_up(&block.mlp, tensors, sizes)?,
            gated: matches!(block.mlp, Mlp::Gated { .. }),
            down: PackedLinear::new(tensors.linear(down, width, sizes.neurons)?),
            activation,
            layer_scale2: pack_vector(tensors, block.layer_scale2.as_ref(), width)?,
        })
    }

    /// The last layers of both branches, as they were trained.
    pub(super) fn ends(&self) -> CorrectedBlock<'_> {
        let scale1 = self.layer_scale1.as_deref();
        let scale2 = self.layer_scale2.as_deref();
        CorrectedBlock {
            projection: BranchEnd { layer: &self.projection, bias: self.projection.bias(), scale: scale1 },
            down: BranchEnd { layer: &self.down, bias: self.down.bias(), scale: scale2 },
        }
    }

    /// Adds the attention of `heads`, with the first `dims` of their queries, keys and values, to `stream`, whole images
    /// of `sizes.tokens` tokens.
    #[expect(clippy::too_many_arguments, reason = "what the branch is made of, what it runs and what it writes to")]
    pub(super) fn attend(
        &self,
        set: InstructionSet,
        sizes: &Sizes,
        rotary: Option<&Rotary>,
        end: BranchEnd<'_>,
        heads: &[usize],
        dims: HeadDims,
        stream: &mut [f32],
        scratch: &mut Scratch,
    ) {
        head_segments(heads, sizes.head_dim, dims.value, &mut scratch.segments);
        for stream in stream.chunks_mut(images_together(sizes.tokens) * sizes.image_values()) {
            let rows = stream.len() / sizes.embed_dim;
            self.attend_together(set, sizes, rotary, heads, dims, stream, scratch);
            set.run(end.layer.product_with(
                end.bias,
                Operand { data: &scratch.attended, rows },
                rows,
                &scratch.segments,
                Target::Added { stream, width: sizes.embed_dim, scale: end.scale },
            ));
        }
    }

    /// Computes `scratch.attended`, one head after the other for a few images.
    #[expect(clippy::too_many_arguments, reason = "as its caller has")]
    fn attend_together(
        &self,
        set: InstructionSet,
        sizes: &Sizes,
        rotary: Option<&Rotary>,
        heads: &[usize],
        dims: HeadDims,
        stream: &[f32],
        scratch: &mut Scratch,
    ) {
        let Sizes { tokens, embed_dim, head_dim, .. } = *sizes;
        let rows = stream.len() / embed_dim;
        set.run(Normalise {
            norm: &self.norm1,
            input: stream,
            width: embed_dim,
            row: &mut scratch.row,
            target: NormTarget::Panels { out: &mut scratch.normed, rows },
        });
        let head_panels = panels(head_dim);
        let (query_panels, value_panels) = (panels(dims.query), panels(dims.value));
        for (place, head) in heads.iter().enumerate() {
            let parts = [query_panels, query_panels, value_panels];
            if query_panels == head_panels {
                // Side by side in the weights too.
                self.project(set, head * 3 * head_panels, parts.iter().sum(), rows, &scratch.normed, &mut scratch.head);
            } else {
                let mut out = &mut scratch.head[..];
                for (part, count) in parts.into_iter().enumerate() {
                    let (own, rest) = out.split_at_mut(count * rows);
                    self.project(set, (head * 3 + part) * head_panels, count, rows, &scratch.normed, own);
                    out = rest;
                }
            }
            let (queries, rest) = scratch.head.split_at_mut(query_panels * rows);
            let (keys, values) = rest.split_at_mut(query_panels * rows);
            let out = &mut scratch.attended[place * value_panels * rows..(place + 1) * value_panels * rows];
            for first in (0..rows).step_by(tokens) {
                if let Some(rotary) = rotary {
                    rotary.turn(queries, rows, first);
                    rotary.turn(keys, rows, first);
                }
                transpose(Operand { data: keys, rows }, first, tokens, dims.query, &mut scratch.keys);
                set.run(HeadAttention {
                    queries: Operand { data: queries, rows },
                    first_query: first,
                    query_count: tokens,
                    keys: Operand { data: &scratch.keys, rows: dims.query },
                    values: Operand { data: values, rows },
                    first_value: first,
                    tokens,
                    query_dims: dims.query,
                    value_dims: dims.value,
                    scale: (head_dim as f32).sqrt().recip(),
                    scores: &mut scratch.scores,
                    out,
                    out_rows: rows,
                    first_out: first,
                });
            }
        }
    }

    /// Some panels of queries, keys or values.
    fn project(
        &self,
        set: InstructionSet,
        first: usize,
        count: usize,
        rows: usize,
        normed: &[PanelRow],
        out: &mut [PanelRow],
    ) {
        set.run(self.heads.product(
            Operand { data: normed, rows },
            rows,
            first,
            count,
            &[Segment::prefix(self.heads.inputs())],
            Target::Panels { out, rows },
        ));
    }

    /// Adds the MLP of the first `neurons` to `stream`, any number of tokens.
    pub(super) fn transform(
        &self,
        set: InstructionSet,
        embed_dim: usize,
        end: BranchEnd<'_>,
        neurons: usize,
        stream: &mut [f32],
        scratch: &mut Scratch,
    ) {
        for (first, rows) in even_parts(stream.len() / embed_dim, MLP_ROWS) {
            let stream = &mut stream[first * embed_dim..(first + rows) * embed_dim];
            set.run(Normalise {
                norm: &self.norm2,
                input: stream,
                width: embed_dim,
                row: &mut scratch.row,
                target: NormTarget::Panels { out: &mut scratch.normed, rows },
            });
            let (out, activation) = (&mut scratch.hidden[..], self.activation);
            let (panels_of_neuron, target) = if self.gated {
                (2, Target::Gated { out, rows, activation })
            } else {
                (1, Target::Activated { out, rows, activation })
            };
            set.run(self.up.product(
                Operand { data: &scratch.normed, rows },
                rows,
                0,
                panels_of_neuron * panels(neurons),
                &[Segment::prefix(embed_dim)],
                target,
            ));
            set.run(end.layer.product_with(
                end.bias,
                Operand { data: &scratch.hidden, rows },
                rows,
                &[Segment::prefix(neurons)],
                Target::Added { stream, width: embed_dim, scale: end.scale },
            ));
        }
    }
}

fn pack_heads(parts: [&Linear; 3], tensors: Tensors, sizes: &Sizes) -> Result<PackedLinear, EngineError> {
    let Sizes { embed_dim, heads, head_dim, .. } = *sizes;
    let mut packed = PackedLinear::with_capacity(embed_dim, heads * 3 * panels(head_dim));
    let mut layers = Vec::with_capacity(parts.len());
    for part in parts {
        layers.push(tensors.linear(part, heads * head_dim, embed_dim)?);
    }
    for head in 0..heads {
        for layer in &layers {
            packed.push(layer.outputs(head * head_dim, head_dim));
        }
    }
    Ok(packed)
}

fn pack_up(mlp: &Mlp, tensors: Tensors, sizes: &Sizes) -> Result<PackedLinear, EngineError> {
    let Sizes { embed_dim, neurons, .. } = *sizes;
    match mlp {
        Mlp::Plain { up, .. } => Ok(PackedLinear::new(tensors.linear(up, neurons, embed_dim)?)),
        Mlp::Gated { gate, up, .. } => {
            let gate = tensors.linear(gate, neurons, embed_dim)?;
            let up = tensors.linear(up, neurons, embed_dim)?;
            let mut packed = PackedLinear::with_capacity(embed_dim, 2 * panels(neurons));
            for first in (0..neurons).step_by(PANEL) {
                let count = PANEL.min(neurons - first);
                packed.push(gate.outputs(first, count));
                packed.push(up.outputs(first, count));
            }
            Ok(packed)
        }
    }
}
