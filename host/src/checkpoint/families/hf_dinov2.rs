//! transformers' `Dinov2Model` and `Dinov2WithRegistersModel`, and their
//! classifiers: facebook/dinov2-*, facebook/dinov2-with-registers-*.
//! <https://github.com/huggingface/transformers/blob/main/src/transformers/models/dinov2/modeling_dinov2.py>
//!
//! The giants have SwiGLU (`weights_in` holds gate, then up); their config
//! says `hidden_act: gelu`, which the SwiGLU ignores.

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
    let outer = Parts { family: "transformers DINOv2", tensors: evidence.tensors, prefix: "" };
    let parts = Parts { prefix: evidence.prefix, ..outer };
    // facebook/dinov2-base's preprocessing.
    let transformers = Transformers::read(
        evidence,
        Defaults {
            heads: 12,
            activation: Activation::Gelu,
            eps: 1e-6,
            image_size: 224,
            mean_and_std: IMAGENET,
            interpolation: Interpolation::Bicubic,
            crop_fraction: 0.875,
            crop_mode: CropMode::Center,
        },
    )?;
    let has_registers = parts.has("embeddings.register_tokens");
    let family = if has_registers { "transformers DINOv2 with registers" } else { "transformers DINOv2" };

    let embed_dim = transformers.embed_dim(&parts, PATCH)?;
    let heads = transformers.heads(evidence, family, embed_dim)?;
    let image = transformers.image(&parts, PATCH)?;
    let eps = transformers.eps();
    let gated = parts.has("encoder.layer.0.mlp.weights_in.weight");
    let (down, activation) = match gated {
        true => ("encoder.layer.0.mlp.weights_out.weight", Activation::Silu),
        false => ("encoder.layer.0.mlp.fc2.weight", transformers.activation()?),
    };
    let neurons = parts.size(down, 1)?;
    // Registers come after the class token, once positions are added. transformers resamples the positions of the
    // models with registers with antialiasing, of those without registers without.
    let position = transformers.learned_position(
        &parts,
        "embeddings.position_embeddings",
        1,
        image.patch,
        if has_registers { PositionResampling::BicubicAntialias } else { PositionResampling::Bicubic },
    );
    let head = match outer.optional_classifier("classifier") {
        Some(Head::Linear { linear }) => Some(Head::ClassAndPatchMean { linear }),
        head => head,
    };
    let description = Description {
        family: family.to_owned(),
        embed_dim,
        heads,
        head_dim: divide_heads(heads, embed_dim, PATCH)?,
        neurons,
        activation,
        embedding: Embedding {
            patch: parts.linear("embeddings.patch_embeddings.projection"),
            prefix: parts.prefix_tokens(
                &[(PrefixKind::Class, "embeddings.cls_token"), (PrefixKind::Registers, "embeddings.register_tokens")],
                embed_dim,
            )?,
            position,
            norm: None,
        },
        blocks: (0..transformers.depth(&parts, "encoder.layer"))
            .map(|index| block(&parts, index, gated.then_some(neurons), eps))
            .collect(),
        final_norm: Some(parts.norm("layernorm", eps)),
        pooling: Pooling::Class,
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

/// `gated_neurons`: the rows of gate and of up in `weights_in`.
fn block(parts: &Parts<'_>, index: usize, gated_neurons: Option<usize>, eps: f64) -> Block {
    let name = |part: &str| format!("encoder.layer.{index}.{part}");
    let mlp = match gated_neurons {
        None => Mlp::Plain { up: parts.linear(&name("mlp.fc1")), down: parts.linear(&name("mlp.fc2")) },
        Some(neurons) => Mlp::Gated {
            gate: parts.fused(&name("mlp.weights_in"), 0, neurons),
            up: parts.fused(&name("mlp.weights_in"), 1, neurons),
            down: parts.linear(&name("mlp.weights_out")),
        },
    };
    Block {
        norm1: parts.norm(&name("norm1"), eps),
        query: parts.linear(&name("attention.attention.query")),
        key: parts.linear(&name("attention.attention.key")),
        value: parts.linear(&name("attention.attention.value")),
        projection: parts.linear(&name("attention.output.dense")),
        layer_scale1: Some(parts.tensor(&name("layer_scale1.lambda1"))),
        norm2: parts.norm(&name("norm2"), eps),
        mlp,
        layer_scale2: Some(parts.tensor(&name("layer_scale2.lambda1"))),
    }
}
