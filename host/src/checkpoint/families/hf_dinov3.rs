//! transformers' `DINOv3ViTModel`: facebook/dinov3-vit*.
//! <https://github.com/huggingface/transformers/blob/main/src/transformers/models/dinov3_vit/modeling_dinov3_vit.py>
//!
//! Positions are rotary; biases are read where the file has them (the keys
//! never have one, the 7B model has none on queries and values either).

use headroom_device::model::Description;
use headroom_device::model::description::{
    Activation, Block, CropMode, Embedding, Interpolation, Mlp, Pooling, Position, PrefixKind,
};

use super::parts::Parts;
use super::transformers::{Defaults, Transformers};
use super::{Evidence, Finding, IMAGENET, divide_heads};
use crate::checkpoint::error::CheckpointError;

const PATCH: &str = "embeddings.patch_embeddings.weight";
const FAMILY: &str = "transformers DINOv3";

pub(super) fn describe(evidence: &Evidence<'_>) -> Result<Finding, CheckpointError> {
    let parts = Parts { family: FAMILY, tensors: evidence.tensors, prefix: evidence.prefix };
    // facebook/dinov3-vits16-pretrain-lvd1689m's preprocessing.
    let transformers = Transformers::read(
        evidence,
        Defaults {
            heads: 6,
            activation: Activation::Gelu,
            eps: 1e-5,
            image_size: 224,
            mean_and_std: IMAGENET,
            interpolation: Interpolation::Bilinear,
            crop_fraction: 1.0,
            crop_mode: CropMode::Squash,
        },
    )?;
    let embed_dim = transformers.embed_dim(&parts, PATCH)?;
    let heads = transformers.heads(evidence, FAMILY, embed_dim)?;
    let eps = transformers.eps();
    let in_parameters = transformers.config.rope_parameters.as_ref().and_then(|rope| rope.rope_theta);
    let description = Description {
        family: FAMILY.to_owned(),
        image: transformers.image(&parts, PATCH)?,
        embed_dim,
        heads,
        head_dim: divide_heads(heads, embed_dim, PATCH)?,
        neurons: transformers.neurons(&parts, "layer.0.mlp.down_proj.weight")?,
        activation: transformers.activation()?,
        embedding: Embedding {
            patch: parts.linear("embeddings.patch_embeddings"),
            prefix: parts.prefix_tokens(
                &[(PrefixKind::Class, "embeddings.cls_token"), (PrefixKind::Registers, "embeddings.register_tokens")],
                embed_dim,
            )?,
            position: Position::Rotary { theta: transformers.config.rope_theta.or(in_parameters).unwrap_or(100.0) },
            norm: None,
        },
        blocks: (0..transformers.depth(&parts, "layer")).map(|index| block(&parts, index, eps)).collect(),
        final_norm: Some(parts.norm("norm", eps)),
        pooling: Pooling::Class,
        head: None,
        labels: None,
    };
    Ok(Finding {
        description,
        notes: Vec::new(),
        classes: None,
        without_effect: |name| name.ends_with("embeddings.mask_token"),
    })
}

fn block(parts: &Parts<'_>, index: usize, eps: f64) -> Block {
    let name = |part: &str| format!("layer.{index}.{part}");
    let (up, down) = (parts.linear(&name("mlp.up_proj")), parts.linear(&name("mlp.down_proj")));
    let mlp = match parts.has(&name("mlp.gate_proj.weight")) {
        true => Mlp::Gated { gate: parts.linear(&name("mlp.gate_proj")), up, down },
        false => Mlp::Plain { up, down },
    };
    Block {
        norm1: parts.norm(&name("norm1"), eps),
        query: parts.linear(&name("attention.q_proj")),
        key: parts.linear(&name("attention.k_proj")),
        value: parts.linear(&name("attention.v_proj")),
        projection: parts.linear(&name("attention.o_proj")),
        layer_scale1: Some(parts.tensor(&name("layer_scale1.lambda1"))),
        norm2: parts.norm(&name("norm2"), eps),
        mlp,
        layer_scale2: Some(parts.tensor(&name("layer_scale2.lambda1"))),
    }
}
