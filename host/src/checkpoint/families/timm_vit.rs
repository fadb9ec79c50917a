//! timm's `VisionTransformer`: AugReg ViT, DeiT, DeiT-III, DINO v1 (whose
//! torch-hub files have the same names and no config), DINOv2, SigLIP, CLIP.
//! <https://github.com/huggingface/pytorch-image-models/blob/main/timm/models/vision_transformer.py>
//!
//! What the tensors tell: class, distillation and register tokens, layer
//! scale, packed SwiGLU (`mlp.fc1` twice as high as `mlp.fc2` is wide), the
//! norm before the blocks (CLIP), `fc_norm` and attention pooling.

use headroom_device::model::Description;
use headroom_device::model::description::{
    Activation, Block, Embedding, Head, Mlp, Pooling, Position, PositionResampling, PrefixKind,
};

use super::parts::Parts;
use super::timm::Timm;
use super::{Evidence, Finding, divide_heads, unsupported};
use crate::checkpoint::error::CheckpointError;

pub(super) fn describe(evidence: &Evidence<'_>) -> Result<Finding, CheckpointError> {
    let timm = Timm::read(evidence)?;
    let parts = Parts { family: &timm.family, tensors: evidence.tensors, prefix: evidence.prefix };

    let patch = timm.patch(&parts)?;
    let embed_dim = timm.embed_dim(&parts)?;
    let heads = timm.heads(evidence, embed_dim)?;
    let head_dim = divide_heads(heads, embed_dim, "patch_embed.proj.weight")?;
    let depth = timm.depth(&parts);
    let neurons = parts.size("blocks.0.mlp.fc2.weight", 1)?;
    let packed = parts.size("blocks.0.mlp.fc1.weight", 0)? == 2 * neurons;
    let activation = if packed { Activation::Silu } else { timm.activation()? };

    let prefix = parts.prefix_tokens(
        &[
            (PrefixKind::Class, "cls_token"),
            (PrefixKind::Distillation, "dist_token"),
            (PrefixKind::Registers, "reg_token"),
        ],
        embed_dim,
    )?;
    let prefix_count = prefix.iter().map(|tokens| tokens.count).sum();
    let trained = timm.trained_size(&parts, patch, prefix_count)?;
    let grid = (trained.0 / patch, trained.1 / patch);
    // timm has models whose prefix has no positions (`no_embed_class`), and models where all of it has.
    let patches_only = parts.values("pos_embed")? == grid.0 * grid.1 * embed_dim;
    let position = Position::Learned {
        tensor: parts.tensor("pos_embed"),
        prefix_positions: if patches_only { 0 } else { prefix_count },
        grid,
        resampling: PositionResampling::BicubicAntialias,
    };

    let image = timm.image(trained, patch, parts.size("patch_embed.proj.weight", 1)?)?;
    let eps = timm.eps();
    let final_norm = parts.optional_norm("norm", eps);
    let pooling = if parts.has("attn_pool.latent") {
        if prefix_count > 0 {
            return Err(unsupported(
                "a timm ViT whose attention pool leaves out its prefix tokens",
                "an attention pool over all tokens, as SigLIP has, would be read",
            ));
        }
        attention_pooling(&parts, embed_dim, heads, activation, eps)
    } else {
        match timm.pooling() {
            "token" if parts.has("dist_token") => Pooling::MeanClassDistillation,
            "token" if parts.has("cls_token") => match parts.optional_norm("fc_norm", eps) {
                Some(norm) => Pooling::ClassThenNorm { norm },
                None => Pooling::Class,
            },
            "avg" => match parts.optional_norm("fc_norm", eps) {
                Some(norm) => Pooling::MeanPatchesThenNorm { norm },
                None => Pooling::MeanPatches,
            },
            other => {
                return Err(unsupported(
                    format!("a timm ViT with the pooling `{other}`"),
                    "give global_pool token (with a class token), avg or map in its config.json",
                ));
            }
        }
    };
    let head = match parts.optional_classifier("head") {
        Some(Head::Linear { linear: class }) if parts.has("head_dist.weight") => {
            Some(Head::AverageOfTwo { class, distillation: parts.linear("head_dist") })
        }
        head => head,
    };

    let blocks = (0..depth).map(|index| block(&parts, index, embed_dim, packed.then_some(neurons), eps)).collect();
    let description = Description {
        family: timm.family.clone(),
        image,
        embed_dim,
        heads,
        head_dim,
        neurons,
        activation,
        embedding: Embedding {
            patch: parts.linear("patch_embed.proj"),
            prefix,
            position,
            norm: parts.optional_norm("norm_pre", eps),
        },
        blocks,
        final_norm,
        pooling,
        head,
        labels: timm.labels(),
    };
    Ok(Finding { description, classes: timm.classes(), notes: timm.notes, without_effect: |_| false })
}

/// `packed_neurons`: the rows of gate and of up in a packed `mlp.fc1`.
fn block(parts: &Parts<'_>, index: usize, embed_dim: usize, packed_neurons: Option<usize>, eps: f64) -> Block {
    let name = |part: &str| format!("blocks.{index}.{part}");
    let down = parts.linear(&name("mlp.fc2"));
    let mlp = match packed_neurons {
        None => Mlp::Plain { up: parts.linear(&name("mlp.fc1")), down },
        Some(neurons) => Mlp::Gated {
            gate: parts.fused(&name("mlp.fc1"), 0, neurons),
            up: parts.fused(&name("mlp.fc1"), 1, neurons),
            down,
        },
    };
    Block {
        norm1: parts.norm(&name("norm1"), eps),
        query: parts.fused(&name("attn.qkv"), 0, embed_dim),
        key: parts.fused(&name("attn.qkv"), 1, embed_dim),
        value: parts.fused(&name("attn.qkv"), 2, embed_dim),
        projection: parts.linear(&name("attn.proj")),
        layer_scale1: parts.optional(&name("ls1.gamma")),
        norm2: parts.norm(&name("norm2"), eps),
        mlp,
        layer_scale2: parts.optional(&name("ls2.gamma")),
    }
}

/// SigLIP's pooling. timm gives it the heads of the blocks.
fn attention_pooling(parts: &Parts<'_>, embed_dim: usize, heads: usize, activation: Activation, eps: f64) -> Pooling {
    Pooling::Attention {
        probe: parts.tensor("attn_pool.latent"),
        heads,
        query: parts.linear("attn_pool.q"),
        key: parts.fused("attn_pool.kv", 0, embed_dim),
        value: parts.fused("attn_pool.kv", 1, embed_dim),
        out: parts.linear("attn_pool.proj"),
        norm: parts.norm("attn_pool.norm", eps),
        up: parts.linear("attn_pool.mlp.fc1"),
        down: parts.linear("attn_pool.mlp.fc2"),
        activation,
    }
}
