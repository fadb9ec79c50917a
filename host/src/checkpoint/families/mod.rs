//! One file per naming: each maps the names of a family's tensors to the
//! parts of a description. Sizes that the config states are taken from it and
//! the others from the tensors; the check of the finished description then
//! finds every disagreement.

mod parts;
mod timm;
mod timm_architectures;
mod timm_vit;

use headroom_device::model::Description;

use super::OpenOptions;
use super::error::CheckpointError;
use super::source::Document;
use super::tensors::TensorStore;

/// What a family may look at.
pub(super) struct Evidence<'a> {
    pub(super) tensors: &'a TensorStore,
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
    /// A tensor name that only this naming has, without its prefix.
    pub(super) mark: &'static str,
    pub(super) describe: fn(&Evidence<'_>) -> Result<Finding, CheckpointError>,
}

/// Every naming, told apart by one tensor name.
pub(super) const FAMILIES: &[Family] = &[Family {
    name: "timm ViT (AugReg, DeiT, DeiT-III, DINO v1, DINOv2, SigLIP, CLIP)",
    mark: "blocks.0.attn.qkv.weight",
    describe: timm_vit::describe,
}];

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
