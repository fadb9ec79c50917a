//! LayerNorm.

use headroom_shared::integer_model::IntegerNorm;

use super::lanes::sum;

/// Normalises a row. The variance is taken about the mean: it cannot lose its digits.
#[inline(always)]
pub(super) fn normalise(norm: &IntegerNorm, input: &[f32], out: &mut [f32]) {
    let width = input.len() as f32;
    let mean = sum(input, |value| value) / width;
    let variance = sum(input, |value| (value - mean) * (value - mean)) / width;
    let scale = 1.0 / libm::sqrtf(variance + norm.eps);
    for (((out, value), weight), bias) in out.iter_mut().zip(input).zip(norm.weight.iter()).zip(norm.bias.iter()) {
        *out = ((value - mean) * scale) * weight + bias;
    }
}
