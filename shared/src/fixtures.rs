//! Shapes that the tests of this crate share.

use crate::shape::{MlpKind, ModelShape};

/// `vit_base_patch16_224` in f16, without floors.
pub(crate) fn vit_b16() -> ModelShape {
    ModelShape {
        blocks: 12,
        heads: 12,
        head_dim: 64,
        neurons: 3072,
        embed_dim: 768,
        tokens: 197,
        mlp: MlpKind::Plain,
        bytes_per_weight: 2,
        // Patch embedding of 196 patches, classifier of the class token.
        outside_macs: 196 * 768 * 768 + 768 * 1000,
        // Patch embedding, class token, positions, final norm, classifier.
        outside_weight_bytes: 2 * (768 * 768 + 768 + 768 + 197 * 768 + 2 * 768 + 768 * 1000 + 1000),
        floor_heads: 0,
        floor_neurons: 0,
    }
}
