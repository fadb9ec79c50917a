//! transformers' SigLIP vision tower, alone (with and without the
//! `vision_model.` prefix) or in the two-tower checkpoint: google/siglip-*,
//! google/siglip2-* of fixed resolution.
//! <https://github.com/huggingface/transformers/blob/main/src/transformers/models/siglip/modeling_siglip.py>

use headroom_device::model::Description;
use headroom_device::model::description::{
    Activation, CropMode, Embedding, Interpolation, Linear, Pooling, PositionResampling,
};

use super::parts::Parts;
use super::transformers::{Defaults, Transformers};
use super::two_tower;
use super::{Evidence, Finding, divide_heads, unsupported};
use crate::checkpoint::error::CheckpointError;

const PATCH: &str = "embeddings.patch_embedding.weight";
const FAMILY: &str = "transformers SigLIP";

pub(super) fn describe(evidence: &Evidence<'_>) -> Result<Finding, CheckpointError> {
    let parts = Parts { family: FAMILY, tensors: evidence.tensors, prefix: evidence.prefix };
    // google/siglip-base-patch16-224's preprocessing.
    let transformers = Transformers::read(
        evidence,
        Defaults {
            heads: 12,
            activation: Activation::GeluTanh,
            eps: 1e-6,
            image_size: 224,
            mean_and_std: ([0.5; 3], [0.5; 3]),
            interpolation: Interpolation::Bicubic,
            crop_fraction: 1.0,
            crop_mode: CropMode::Squash,
        },
    )?;
    if transformers.model_type().starts_with("siglip2") {
        return Err(unsupported(
            format!("SigLIP 2 of variable resolution (model_type `{}`)", transformers.model_type()),
            "take the checkpoint of fixed resolution, such as google/siglip2-base-patch16-224",
        ));
    }
    let embed_dim = transformers.embed_dim(&parts, PATCH)?;
    let heads = transformers.heads(evidence, FAMILY, embed_dim)?;
    let image = transformers.image(&parts, PATCH)?;
    let activation = transformers.activation()?;
    let eps = transformers.eps();
    let mut notes = two_tower::notes(evidence);
    let pooling = if parts.has("head.probe") {
        attention_pooling(&parts, embed_dim, heads, activation, eps)
    } else {
        notes.push("the tower has no attention pool: the mean of its patch tokens is the embedding".to_owned());
        Pooling::MeanPatches
    };
    let description = Description {
        family: FAMILY.to_owned(),
        embed_dim,
        heads,
        head_dim: divide_heads(heads, embed_dim, PATCH)?,
        neurons: transformers.neurons(&parts, "encoder.layers.0.mlp.fc2.weight")?,
        activation,
        embedding: Embedding {
            patch: parts.linear("embeddings.patch_embedding"),
            prefix: Vec::new(),
            position: transformers.learned_position(
                &parts,
                "embeddings.position_embedding.weight",
                0,
                image.patch,
                PositionResampling::Bicubic,
            ),
            norm: None,
        },
        blocks: (0..transformers.depth(&parts, "encoder.layers"))
            .map(|index| two_tower::block(&parts, index, eps))
            .collect(),
        final_norm: Some(parts.norm("post_layernorm", eps)),
        pooling,
        head: None,
        labels: None,
        image,
    };
    Ok(Finding { description, notes, classes: None, without_effect: two_tower::without_effect })
}

/// PyTorch's `MultiheadAttention` with a learned query: `in_proj` holds query, key, value.
fn attention_pooling(parts: &Parts<'_>, embed_dim: usize, heads: usize, activation: Activation, eps: f64) -> Pooling {
    let input = |part: usize| {
        let rows = Some((part * embed_dim, embed_dim));
        let mut weight = parts.tensor("head.attention.in_proj_weight");
        let mut bias = parts.tensor("head.attention.in_proj_bias");
        (weight.rows, bias.rows) = (rows, rows);
        Linear { weight, bias: Some(bias) }
    };
    Pooling::Attention {
        probe: parts.tensor("head.probe"),
        heads,
        query: input(0),
        key: input(1),
        value: input(2),
        out: parts.linear("head.attention.out_proj"),
        norm: parts.norm("head.layernorm", eps),
        up: parts.linear("head.mlp.fc1"),
        down: parts.linear("head.mlp.fc2"),
        activation,
    }
}
