//! LayerNorm.

use headroom_shared::integer_model::IntegerNorm;

use super::kernel::Kernel;
use super::lanes::sum;
use super::quantise::{Step, quantise_row};

/// Normalises a row. The variance is taken about the mean: it cannot lose its digits.
#[cfg_attr(feature = "std", inline(always))]
#[cfg_attr(not(feature = "std"), inline(never))]
pub(super) fn normalise(norm: &IntegerNorm, input: &[f32], out: &mut [f32]) {
    let width = input.len() as f32;
    let mean = sum(input, |value| value) / width;
    let variance = sum(input, |value| (value - mean) * (value - mean)) / width;
    let scale = 1.0 / libm::sqrtf(variance + norm.eps);
    for (((out, value), weight), bias) in out.iter_mut().zip(input).zip(norm.weight.iter()).zip(norm.bias.iter()) {
        *out = ((value - mean) * scale) * weight + bias;
    }
}

/// Normalises rows where they are, by way of `row`.
pub(super) struct NormaliseRows<'a> {
    pub norm: &'a IntegerNorm<'a>,
    pub rows: &'a mut [f32],
    /// As wide as one of them.
    pub row: &'a mut [f32],
}

impl Kernel for NormaliseRows<'_> {
    #[inline(always)]
    fn run(self) {
        for values in self.rows.chunks_exact_mut(self.row.len()) {
            normalise(self.norm, values, self.row);
            values.copy_from_slice(self.row);
        }
    }
}

/// Normalises rows, each to `normed`, and quantises it.
pub(super) struct NormaliseAndQuantise<'a> {
    pub norm: &'a IntegerNorm<'a>,
    pub rows: &'a [f32],
    /// As wide as one of them.
    pub normed: &'a mut [f32],
    pub quantised: &'a mut [u8],
    pub stride: usize,
    pub steps: &'a mut [Step],
}

impl Kernel for NormaliseAndQuantise<'_> {
    #[inline(always)]
    fn run(self) {
        let out = self.quantised.chunks_exact_mut(self.stride).zip(self.steps);
        for (values, (out, step)) in self.rows.chunks_exact(self.normed.len()).zip(out) {
            normalise(self.norm, values, self.normed);
            *step = quantise_row(self.normed, out);
        }
    }
}
