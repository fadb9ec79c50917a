//! A model with a bit of everything, small enough to be damaged at every bit.

use headroom_shared::MlpKind;
use headroom_shared::integer_model::{
    ActivationKind, BlockCounts, BlockParts, CorrectionGroupParts, EndsParts, HeadKind, HeadLayers, IntegerModel,
    IntegerModelParts, IntegerSizes, LinearParts, MatrixParts, NormParts, PoolingKind, PoolingLayer, PoolingParts,
};

fn floats(first: usize, count: usize) -> Vec<f32> {
    (0..count).map(|at| (first + at) as f32 / 8.0).collect()
}

fn linear(first: usize, rows: usize, columns: usize, biases: usize) -> LinearParts {
    let weights = (0..rows * columns).map(|at| ((first + 7 * at) % 255) as i8).collect();
    let matrix = MatrixParts { columns, weights, scales: floats(first, rows) };
    LinearParts { matrix, biases: floats(first + rows, biases) }
}

fn norm(first: usize) -> NormParts {
    NormParts { eps: 1e-6, weight: floats(first, 4), bias: floats(first + 4, 4) }
}

pub fn parts() -> IntegerModelParts {
    let sizes = IntegerSizes {
        image_height: 4,
        image_width: 2,
        patch: 2,
        prefix_tokens: 1,
        embed_dim: 4,
        heads: 3,
        head_dim: 4,
        neurons: 6,
        blocks: 1,
        classes: 3,
        mlp: MlpKind::Gated,
        activation: ActivationKind::Silu,
        pooling: PoolingKind::MeanPatchesThenNorm,
        head: Some(HeadKind::Linear),
        embedding_norm: true,
        rotary: true,
        final_norm: false,
        original_ends: true,
    };
    let counts = BlockCounts { heads: 2, query_dims: 4, value_dims: 3, neurons: 5 };
    let ends = |biases| EndsParts { projection: linear(6, 4, 6, biases), down: linear(7, 4, 5, biases) };
    let block = BlockParts {
        counts,
        norm1: norm(1),
        query: linear(1, 8, 4, 8),
        key: linear(2, 8, 4, 8),
        value: linear(3, 6, 4, 6),
        norm2: norm(2),
        gate: Some(linear(4, 5, 4, 5)),
        up: linear(5, 5, 4, 5),
        ends: Some(ends(4)),
    };
    IntegerModelParts {
        weights_sha256: [0xab; 32],
        sizes,
        tokens: floats(0, 3 * 4),
        patch: linear(0, 4, 12, 4),
        embedding_norm: Some(norm(3)),
        rotary: Some(floats(9, 2 * 4)),
        blocks: vec![block],
        final_norm: None,
        pooling: PoolingParts::Norm(norm(4)),
        head: vec![linear(8, 3, 4, 3)],
        groups: vec![CorrectionGroupParts { rungs: vec![2, 5], blocks: vec![ends(8)] }],
    }
}

/// Asks for everything that a model has.
pub fn visit(model: &IntegerModel<'_>) -> f32 {
    let rotary = model.rotary().map_or(0.0, |table| table.iter().sum::<f32>());
    let mut sum = rotary + model.tokens().iter().sum::<f32>();
    let mut linear = |layer: headroom_shared::integer_model::IntegerLinear<'_>| {
        for row in 0..layer.rows() {
            sum += layer.scales().get(row) + layer.biases().get(row) + f32::from(layer.row(row)[0]);
        }
    };
    linear(model.patch());
    for block in 0..model.sizes().blocks {
        let layers = model.block(block);
        for layer in [layers.query, layers.key, layers.value, layers.up].into_iter().chain(layers.gate) {
            linear(layer);
        }
        let corrected = (0..model.corrections()).map(|correction| model.corrected_ends(correction, block));
        for ends in layers.ends.into_iter().chain(corrected) {
            linear(ends.projection);
            linear(ends.down);
        }
    }
    match model.head() {
        HeadLayers::None => {}
        HeadLayers::One(layer) => linear(layer),
        HeadLayers::Two(class, distillation) => {
            linear(class);
            linear(distillation);
        }
    }
    match model.pooling() {
        PoolingLayer::None | PoolingLayer::Norm(_) => {}
        PoolingLayer::Dense(layer) => linear(layer),
        PoolingLayer::Attention(layers) => {
            [layers.key, layers.value, layers.out, layers.up, layers.down].into_iter().for_each(linear);
        }
    }
    sum
}
