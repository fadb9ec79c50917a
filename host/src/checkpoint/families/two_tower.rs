//! What CLIP and SigLIP share in transformers: the blocks' names, and a text
//! tower beside the vision tower.

use headroom_device::model::description::{Block, Mlp};

use super::Evidence;
use super::parts::Parts;

/// Tells the user that there is a text tower and that it is left aside.
pub(super) fn notes(evidence: &Evidence<'_>) -> Vec<String> {
    let has_text_tower = evidence.tensors.iter().any(|(name, _)| name.starts_with("text_model."));
    let note = "two towers: the vision tower is used, the text tower is left aside";
    has_text_tower.then(|| note.to_owned()).into_iter().collect()
}

/// The text tower, what compares the two towers, and the position numbers of older files.
pub(super) fn without_effect(name: &str) -> bool {
    name.starts_with("text_model.")
        || name.starts_with("text_projection.")
        || matches!(name, "logit_scale" | "logit_bias")
        || name.ends_with("embeddings.position_ids")
}

pub(super) fn block(parts: &Parts<'_>, index: usize, eps: f64) -> Block {
    let name = |part: &str| format!("encoder.layers.{index}.{part}");
    Block {
        norm1: parts.norm(&name("layer_norm1"), eps),
        query: parts.linear(&name("self_attn.q_proj")),
        key: parts.linear(&name("self_attn.k_proj")),
        value: parts.linear(&name("self_attn.v_proj")),
        projection: parts.linear(&name("self_attn.out_proj")),
        layer_scale1: None,
        norm2: parts.norm(&name("layer_norm2"), eps),
        mlp: Mlp::Plain { up: parts.linear(&name("mlp.fc1")), down: parts.linear(&name("mlp.fc2")) },
        layer_scale2: None,
    }
}
