//! timm's published architecture names: what they imply and no tensor tells.

use headroom_device::model::description::Activation;

/// What follows from an architecture's name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Architecture {
    pub(super) embed_dim: usize,
    pub(super) heads: usize,
    pub(super) activation: Activation,
    pub(super) eps: f64,
}

/// The entry of that name.
pub(super) fn find(name: &str) -> Option<Architecture> {
    let _ = name;
    None
}

/// The family that the name is known for, for messages.
pub(super) fn kind(name: &str) -> &'static str {
    let has = |word| name.contains(word);
    match () {
        () if has("dinov3") => "DINOv3",
        () if has("dinov2") => "DINOv2",
        () if has("siglip") => "SigLIP",
        () if has("clip") => "CLIP",
        () if has("deit3") => "DeiT-III",
        () if has("deit") => "DeiT",
        () => "ViT",
    }
}
