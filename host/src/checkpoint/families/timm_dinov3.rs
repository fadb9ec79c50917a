//! DINOv3 in timm (its `Eva` class): timm/vit_*_dinov3*.
//! <https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/eva.py>
//!
//! The other models of that class (EVA-02, BEiT-like, other rotary forms)
//! have the same names, so only architectures of DINOv3 are taken.

use headroom_device::model::Description;
use headroom_device::model::description::{Activation, Block, Embedding, Linear, Mlp, Pooling, Position, PrefixKind};

use super::parts::Parts;
use super::timm::Timm;
use super::{Evidence, Finding, divide_heads, unsupported};
use crate::checkpoint::error::CheckpointError;

const PATCH: &str = "patch_embed.proj.weight";

/// Side of the input that timm's DINOv3 models are published for, pixels.
const IMAGE_SIZE: usize = 256;

pub(super) fn describe(evidence: &Evidence<'_>) -> Result<Finding, CheckpointError> {
    let timm = Timm::read(evidence)?;
    if !timm.architecture_name().contains("dinov3") {
        return Err(unsupported(
            format!("timm's Eva class with the architecture `{}`", timm.architecture_name()),
            "of that class only the DINOv3 architectures are read; config.json must name one",
        ));
    }
    let parts = Parts { family: &timm.family, tensors: evidence.tensors, prefix: evidence.prefix };
    let patch = timm.patch(&parts)?;
    let embed_dim = timm.embed_dim(&parts)?;
    let heads = timm.heads(evidence, embed_dim)?;
    let gated = parts.has("blocks.0.mlp.fc1_g.weight");
    let eps = timm.eps();
    let size = timm.stated_size().unwrap_or((IMAGE_SIZE, IMAGE_SIZE));
    let pooling = match timm.pooling() {
        "token" => Pooling::Class,
        "avg" => match parts.optional_norm("fc_norm", eps) {
            Some(norm) => Pooling::MeanPatchesThenNorm { norm },
            None => Pooling::MeanPatches,
        },
        other => {
            return Err(unsupported(
                format!("timm DINOv3 with the pooling `{other}`"),
                "give global_pool token or avg in its config.json",
            ));
        }
    };
    let description = Description {
        family: timm.family.clone(),
        image: timm.image(size, patch, parts.size(PATCH, 1)?)?,
        embed_dim,
        heads,
        head_dim: divide_heads(heads, embed_dim, PATCH)?,
        neurons: parts.size("blocks.0.mlp.fc2.weight", 1)?,
        activation: if gated { Activation::Silu } else { timm.activation()? },
        embedding: Embedding {
            patch: parts.linear("patch_embed.proj"),
            prefix: parts
                .prefix_tokens(&[(PrefixKind::Class, "cls_token"), (PrefixKind::Registers, "reg_token")], embed_dim)?,
            position: Position::Rotary { theta: timm.rope_theta() },
            norm: None,
        },
        blocks: (0..timm.depth(&parts)).map(|index| block(&parts, index, embed_dim, gated, eps)).collect(),
        final_norm: parts.optional_norm("norm", eps),
        pooling,
        head: parts.optional_classifier("head"),
        labels: timm.labels(),
    };
    Ok(Finding { description, classes: timm.classes(), notes: timm.notes, without_effect: |_| false })
}

fn block(parts: &Parts<'_>, index: usize, embed_dim: usize, gated: bool, eps: f64) -> Block {
    let name = |part: &str| format!("blocks.{index}.{part}");
    // The biases of query and value are tensors of their own; the keys' is zero and not stored.
    let input = |part: usize, bias: Option<&str>| {
        let linear = parts.fused(&name("attn.qkv"), part, embed_dim);
        let own = bias.and_then(|bias| parts.optional(&name(bias)));
        Linear { weight: linear.weight, bias: linear.bias.or(own) }
    };
    let down = parts.linear(&name("mlp.fc2"));
    let mlp = match gated {
        true => Mlp::Gated { gate: parts.linear(&name("mlp.fc1_g")), up: parts.linear(&name("mlp.fc1_x")), down },
        false => Mlp::Plain { up: parts.linear(&name("mlp.fc1")), down },
    };
    Block {
        norm1: parts.norm(&name("norm1"), eps),
        query: input(0, Some("attn.q_bias")),
        key: input(1, None),
        value: input(2, Some("attn.v_bias")),
        projection: parts.linear(&name("attn.proj")),
        layer_scale1: Some(parts.tensor(&name("gamma_1"))),
        norm2: parts.norm(&name("norm2"), eps),
        mlp,
        layer_scale2: Some(parts.tensor(&name("gamma_2"))),
    }
}
