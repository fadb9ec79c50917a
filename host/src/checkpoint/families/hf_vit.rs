//! transformers' `ViTModel`, `DeiTModel` and their classifiers: google/vit-*,
//! facebook/deit-*, and DINO v1 as facebook/dino-vit*.
//! <https://github.com/huggingface/transformers/blob/main/src/transformers/models/vit/modeling_vit.py>

use headroom_device::model::Description;
use headroom_device::model::description::{
    Activation, Block, CropMode, Embedding, Head, Interpolation, Mlp, Pooling, PositionResampling, PrefixKind,
};

use super::parts::Parts;
use super::transformers::{Defaults, Transformers};
use super::{Evidence, Finding, IMAGENET, divide_heads};
use crate::checkpoint::error::CheckpointError;

const PATCH: &str = "embeddings.patch_embeddings.projection.weight";

pub(super) fn describe(evidence: &Evidence<'_>) -> Result<Finding, CheckpointError> {
    let outer = Parts { family: "transformers ViT", tensors: evidence.tensors, prefix: "" };
    let parts = Parts { prefix: evidence.prefix, ..outer };
    let is_deit = evidence.prefix == "deit." || parts.has("embeddings.distillation_token");
    let has_head = outer.has("classifier.weight") || outer.has("cls_classifier.weight");
    let is_dino = !is_deit && !has_head && !parts.has("pooler.dense.weight");
    let family = match (is_deit, is_dino) {
        (true, _) => "transformers DeiT",
        (false, true) => "transformers DINO v1 (ViT without pooler)",
        (false, false) => "transformers ViT",
    };
    // Published preprocessing: google/vit-base-patch16-224 (0.5, bilinear to the size itself), facebook/dino-vitb16
    // and facebook/deit-base-patch16-224 (ImageNet, bicubic; DeiT crops 224 of 256).
    let transformers = Transformers::read(
        evidence,
        Defaults {
            heads: 12,
            activation: Activation::Gelu,
            eps: 1e-12,
            image_size: 224,
            mean_and_std: if is_deit || is_dino { IMAGENET } else { ([0.5; 3], [0.5; 3]) },
            interpolation: if is_deit || is_dino { Interpolation::Bicubic } else { Interpolation::Bilinear },
            crop_fraction: if is_deit { 0.875 } else { 1.0 },
            crop_mode: CropMode::Squash,
        },
    )?;

    let embed_dim = transformers.embed_dim(&parts, PATCH)?;
    let heads = transformers.heads(evidence, family, embed_dim)?;
    let image = transformers.image(&parts, PATCH)?;
    let eps = transformers.eps();
    let prefix = parts.prefix_tokens(
        &[(PrefixKind::Class, "embeddings.cls_token"), (PrefixKind::Distillation, "embeddings.distillation_token")],
        embed_dim,
    )?;
    let position = transformers.learned_position(
        &parts,
        "embeddings.position_embeddings",
        prefix.len(),
        image.patch,
        PositionResampling::Bicubic,
    );
    let pooling = match transformers.config.pooler_act.as_deref() {
        _ if has_head || !parts.has("pooler.dense.weight") => Pooling::Class,
        None | Some("tanh") => Pooling::ClassDenseTanh { dense: parts.linear("pooler.dense") },
        Some(other) => {
            return Err(CheckpointError::ConfigValue {
                key: "pooler_act",
                expected: "tanh".to_owned(),
                found: other.to_owned(),
            });
        }
    };
    let head = match outer.optional_classifier("cls_classifier") {
        Some(Head::Linear { linear: class }) => {
            Some(Head::AverageOfTwo { class, distillation: outer.linear("distillation_classifier") })
        }
        _ => outer.optional_classifier("classifier"),
    };
    let description = Description {
        family: family.to_owned(),
        embed_dim,
        heads,
        head_dim: divide_heads(heads, embed_dim, PATCH)?,
        neurons: transformers.neurons(&parts, "encoder.layer.0.output.dense.weight")?,
        activation: transformers.activation()?,
        embedding: Embedding {
            patch: parts.linear("embeddings.patch_embeddings.projection"),
            prefix,
            position,
            norm: None,
        },
        blocks: (0..transformers.depth(&parts, "encoder.layer")).map(|index| block(&parts, index, eps)).collect(),
        final_norm: Some(parts.norm("layernorm", eps)),
        pooling,
        labels: head.is_some().then(|| transformers.labels()).flatten(),
        head,
        image,
    };
    Ok(Finding {
        description,
        notes: Vec::new(),
        classes: transformers.classes(),
        without_effect: |name| name.ends_with("embeddings.mask_token"),
    })
}

fn block(parts: &Parts<'_>, index: usize, eps: f64) -> Block {
    let name = |part: &str| format!("encoder.layer.{index}.{part}");
    Block {
        norm1: parts.norm(&name("layernorm_before"), eps),
        query: parts.linear(&name("attention.attention.query")),
        key: parts.linear(&name("attention.attention.key")),
        value: parts.linear(&name("attention.attention.value")),
        projection: parts.linear(&name("attention.output.dense")),
        layer_scale1: None,
        norm2: parts.norm(&name("layernorm_after"), eps),
        mlp: Mlp::Plain { up: parts.linear(&name("intermediate.dense")), down: parts.linear(&name("output.dense")) },
        layer_scale2: None,
    }
}
