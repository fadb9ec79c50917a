//! transformers' CLIP vision tower, alone or in the two-tower checkpoint:
//! openai/clip-vit-*.
//! <https://github.com/huggingface/transformers/blob/main/src/transformers/models/clip/modeling_clip.py>
//!
//! The tokens are normalised before the blocks (`pre_layrnorm`, as the name is
//! spelt there), and of the last block's tokens only the class token is.

use headroom_device::model::Description;
use headroom_device::model::description::{
    Activation, CropMode, Embedding, Interpolation, Pooling, PositionResampling, PrefixKind,
};

use super::parts::Parts;
use super::transformers::{Defaults, Transformers};
use super::two_tower;
use super::{Evidence, Finding, divide_heads};
use crate::checkpoint::error::CheckpointError;

const PATCH: &str = "embeddings.patch_embedding.weight";
const FAMILY: &str = "transformers CLIP";

pub(super) fn describe(evidence: &Evidence<'_>) -> Result<Finding, CheckpointError> {
    let outer = Parts { family: FAMILY, tensors: evidence.tensors, prefix: "" };
    let parts = Parts { prefix: evidence.prefix, ..outer };
    // openai/clip-vit-base-patch32's preprocessing.
    let transformers = Transformers::read(
        evidence,
        Defaults {
            heads: 12,
            activation: Activation::QuickGelu,
            eps: 1e-5,
            image_size: 224,
            mean_and_std: ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]),
            interpolation: Interpolation::Bicubic,
            crop_fraction: 1.0,
            crop_mode: CropMode::Center,
        },
    )?;
    let embed_dim = transformers.embed_dim(&parts, PATCH)?;
    let heads = transformers.heads(evidence, FAMILY, embed_dim)?;
    let image = transformers.image(&parts, PATCH)?;
    let eps = transformers.eps();
    let description = Description {
        family: FAMILY.to_owned(),
        embed_dim,
        heads,
        head_dim: divide_heads(heads, embed_dim, PATCH)?,
        neurons: transformers.neurons(&parts, "encoder.layers.0.mlp.fc2.weight")?,
        activation: transformers.activation()?,
        embedding: Embedding {
            patch: parts.linear("embeddings.patch_embedding"),
            prefix: parts.prefix_tokens(&[(PrefixKind::Class, "embeddings.class_embedding")], embed_dim)?,
            position: transformers.learned_position(
                &parts,
                "embeddings.position_embedding.weight",
                1,
                image.patch,
                PositionResampling::Bicubic,
            ),
            norm: Some(parts.norm("pre_layrnorm", eps)),
        },
        blocks: (0..transformers.depth(&parts, "encoder.layers"))
            .map(|index| two_tower::block(&parts, index, eps))
            .collect(),
        final_norm: None,
        pooling: Pooling::ClassThenNorm { norm: parts.norm("post_layernorm", eps) },
        head: outer.optional_classifier("visual_projection"),
        labels: None,
        image,
    };
    Ok(Finding {
        description,
        notes: two_tower::notes(evidence),
        classes: None,
        without_effect: two_tower::without_effect,
    })
}
