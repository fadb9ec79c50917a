//! The packed weights of one transformer block.
//!
//! A pass runs a block in two steps: all heads (`heads_step`), then the rest, which looks at each
//! token alone (`tokens_step`).

use super::correction::{BranchEnd, CorrectedBlock};
use super::error::EngineError;
use super::norm::PackedNorm;
use super::pack::{PackedLinear, Tensors, pack_vector};
use super::panel::{PANEL, PanelRow, panels};
use super::sizes::Sizes;
use crate::model::description::{Activation, Block, Linear, Mlp};

#[derive(Clone, Debug)]
pub(super) struct PackedBlock {
    pub norm1: PackedNorm,
    /// For each head its query, key and value panels.
    pub heads: PackedLinear,
    projection: PackedLinear,
    layer_scale1: Option<Vec<PanelRow>>,
    pub norm2: PackedNorm,
    /// Neurons; in a gated MLP a panel of gates, then the panel that they gate, in turns.
    pub up: PackedLinear,
    pub gated: bool,
    down: PackedLinear,
    pub activation: Activation,
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
