//! One file per naming: each maps the names of a family's tensors to the
//! parts of a description. Sizes that the config states are taken from it and
//! the others from the tensors; the check of the finished description then
//! finds every disagreement.
//!
//! Where this differs from the originals, on purpose:
//!
//! - An input that is not whole patches (SigLIP so400m: 384 pixels, 14 a patch)
//!   is cut around its centre; the originals leave out its right and lower
//!   edge. Test `an_input_that_is_not_whole_patches_is_cut_around_its_centre`.
//! - Sixteen-bit weights are widened to f32 and computed in f32; the originals
//!   compute in the stored type unless told otherwise. Fixtures `storage_f16`
//!   and `storage_bf16`, held to the same tolerance as f32.
//! - A two-tower checkpoint is its vision tower; CLIP's `visual_projection`
//!   counts as its classifier. Test `siglip_and_clip`.
//! - The pooler of transformers' ViT is left out where a classifier is there,
//!   as the classifier does. Fixture `hf_vit_imgcls`.
//! - timm's DINOv3 pools the mean of its patches, as its architectures do,
//!   transformers' the class token. Fixtures `timm_dinov3`, `hf_dinov3`.
//!
//! Learned positions are resampled as each original does it, with antialiasing
//! or without ([`PositionResampling`](headroom_device::model::description::PositionResampling));
//! rotary ones are computed for the new grid. Fixtures' `io_size2`.

mod clip;
mod hf_dinov2;
mod hf_dinov3;
mod hf_vit;
mod parts;
mod siglip;
mod timm;
mod timm_architectures;
mod timm_dinov3;
mod timm_vit;
mod transformers;
mod two_tower;

use headroom_device::model::Description;

use super::OpenOptions;
use super::error::CheckpointError;
use super::source::Document;
use super::tensors::TensorStore;

/// What a family may look at.
pub(super) struct Evidence<'a> {
    pub(super) tensors: &'a TensorStore,
    /// What precedes every tensor name of the vision model, such as `vision_model.`.
    pub(super) prefix: &'a str,
    pub(super) config: Option<&'a Document>,
    pub(super) preprocessor: Option<&'a Document>,
    pub(super) options: &'a OpenOptions,
}

/// What a family found.
pub(super) struct Finding {
    pub(super) description: Description,
    /// For the user: what was chosen or left aside.
    pub(super) notes: Vec<String>,
    /// The classes of the classifier, where the config states them.
    pub(super) classes: Option<usize>,
    /// Of a tensor that the description does not name: whether the image embedding does without it.
    pub(super) without_effect: fn(&str) -> bool,
}

/// A naming that this program reads.
pub(super) struct Family {
    /// For messages.
    pub(super) name: &'static str,
    /// Tensor names, without a prefix, that together only this naming has.
    pub(super) marks: &'static [&'static str],
    pub(super) describe: fn(&Evidence<'_>) -> Result<Finding, CheckpointError>,
}

/// Every naming.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "timm ViT (AugReg, DeiT, DeiT-III, DINO v1, DINOv2, SigLIP, CLIP)",
        marks: &["blocks.0.attn.qkv.weight", "pos_embed"],
        describe: timm_vit::describe,
    },
    Family {
        name: "timm DINOv3",
        marks: &["blocks.0.attn.qkv.weight", "blocks.0.gamma_1"],
        describe: timm_dinov3::describe,
    },
    Family {
        name: "transformers ViT, DeiT and DINO v1",
        marks: &["embeddings.patch_embeddings.projection.weight", "encoder.layer.0.layernorm_before.weight"],
        describe: hf_vit::describe,
    },
    Family {
        name: "transformers DINOv2",
        marks: &["embeddings.patch_embeddings.projection.weight", "encoder.layer.0.layer_scale1.lambda1"],
        describe: hf_dinov2::describe,
    },
    Family {
        name: "transformers DINOv3",
        marks: &["embeddings.patch_embeddings.weight", "layer.0.layer_scale1.lambda1"],
        describe: hf_dinov3::describe,
    },
    Family {
        name: "transformers SigLIP",
        marks: &["embeddings.patch_embedding.weight", "embeddings.patch_embedding.bias"],
        describe: siglip::describe,
    },
    Family {
        name: "transformers CLIP",
        marks: &["embeddings.patch_embedding.weight", "embeddings.class_embedding"],
        describe: clip::describe,
    },
];

/// ImageNet's mean and standard deviation.
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// The width of a head.
///
/// # Errors
/// If the heads do not divide `width`, the number of rows of `name`.
fn divide_heads(heads: usize, width: usize, name: &str) -> Result<usize, CheckpointError> {
    if heads == 0 || width == 0 || !width.is_multiple_of(heads) {
        return Err(CheckpointError::HeadsDoNotDivide { heads, width, name: name.to_owned() });
    }
    Ok(width / heads)
}

/// The error for a model that looks like one of the families and is none.
pub(super) fn unsupported(seen: impl Into<String>, needed: impl Into<String>) -> CheckpointError {
    let supported = FAMILIES.iter().map(|family| family.name).collect::<Vec<_>>().join("; ");
    CheckpointError::Unsupported { seen: seen.into(), supported, needed: needed.into() }
}
