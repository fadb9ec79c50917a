//! The exponential and the nonlinearities.
//!
//! Without fused multiply-adds the errors are a little larger than the f32
//! engine's: the tests hold `exp` to 4 units in the last place of f32, activations to 2e-6
//! absolute over -8 to 8.

use headroom_shared::integer_model::ActivationKind;

use super::kernel::Kernel;
use super::lanes::clamp;
use crate::coefficients::{ERF_DENOMINATOR, ERF_EDGE, ERF_NUMERATOR, EXP_TAIL, LN_2_HIGH, LN_2_LOW};

/// `e^x`; `x` is clamped to -87 to 88, where the result is a normal f32. Exactly 1 for 0.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = clamp(x, -87.0, 88.0);
    let power = super::lanes::round(x * core::f32::consts::LOG2_E);
    let n = power as f32;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let value = (r * r) * polynomial(&EXP_TAIL, r) + (r + 1.0);
    value * f32::from_bits((power.wrapping_add(127) << 23).cast_unsigned())
}

/// `1 / (1 + e^-x)`.
#[cfg_attr(feature = "std", inline(always))]
#[cfg_attr(not(feature = "std"), inline(never))]
fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent, to 2e-7 absolute.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    2.0 * logistic(2.0 * x) - 1.0
}

/// The activation of an MLP.
#[inline(always)]
pub(super) fn activate(activation: ActivationKind, x: f32) -> f32 {
    match activation {
        ActivationKind::Gelu => x * half_error_function(x) + x * 0.5,
        ActivationKind::GeluTanh => {
            // 0.5 (1 + tanh(u)) is logistic(2 u), with u = sqrt(2 / pi) (x + 0.044715 x^3).
            const TWICE: f32 = 2.0 * core::f32::consts::FRAC_2_SQRT_PI * core::f32::consts::FRAC_1_SQRT_2;
            x * logistic(x * ((x * x) * (0.044_715 * TWICE) + TWICE))
        }
        ActivationKind::QuickGelu => x * logistic(x * 1.702),
        ActivationKind::Silu => x * logistic(x),
    }
}

/// `erf(x / sqrt(2)) / 2`, the normal distribution function less one half.
#[inline(always)]
fn half_error_function(x: f32) -> f32 {
    let x = clamp(x, -ERF_EDGE, ERF_EDGE);
    let square = x * x;
    (x * polynomial(&ERF_NUMERATOR, square)) / polynomial(&ERF_DENOMINATOR, square)
}

/// Coefficients of the highest power first.
#[inline(always)]
fn polynomial<const N: usize>(coefficients: &[f32; N], x: f32) -> f32 {
    let mut value = coefficients[0];
    for coefficient in &coefficients[1..] {
        value = value * x + coefficient;
    }
    value
}

/// Applies the activation to all values; of a gated MLP they are the gates, and multiplied by `ups`.
pub(super) struct Activate<'a> {
    pub activation: ActivationKind,
    pub values: &'a mut [f32],
    pub ups: Option<&'a [f32]>,
}

impl Kernel for Activate<'_> {
    #[inline(always)]
    fn run(self) {
        // One loop for each activation.
        match self.activation {
            ActivationKind::Gelu => each(self.values, |x| activate(ActivationKind::Gelu, x)),
            ActivationKind::GeluTanh => each(self.values, |x| activate(ActivationKind::GeluTanh, x)),
            ActivationKind::QuickGelu => each(self.values, |x| activate(ActivationKind::QuickGelu, x)),
            ActivationKind::Silu => each(self.values, |x| activate(ActivationKind::Silu, x)),
        }
        if let Some(ups) = self.ups {
            self.values.iter_mut().zip(ups).for_each(|(gate, up)| *gate *= up);
        }
    }
}

#[inline(always)]
fn each(values: &mut [f32], function: impl Fn(f32) -> f32) {
    for value in values {
        *value = function(*value);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn grid(from: f32, to: f32) -> impl Iterator<Item = f32> {
        (0..=200_000).map(move |step| from + (to - from) * (step as f32 / 200_000.0))
    }

    #[test]
    fn exp_is_right_to_four_units_in_the_last_place() {
        assert_eq!(exp(0.0).to_bits(), 1.0_f32.to_bits());
        for x in grid(-86.0, 87.0) {
            let exact = f64::from(x).exp();
            let unit = f64::from(f32::EPSILON) * exact;
            let difference = (f64::from(exp(x)) - exact).abs();
            assert!(difference <= 4.0 * unit, "{x}: {difference:e}");
        }
        for (x, bound) in [(f32::NEG_INFINITY, -87.0_f32), (f32::INFINITY, 88.0), (f32::NAN, -87.0)] {
            assert_eq!(exp(x), exp(bound), "{x}");
        }
    }

    #[test]
    fn activations_are_right_to_two_millionths() {
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        let gelu = |x: f64| x * 0.5 * libm::erfc(-x / core::f64::consts::SQRT_2);
        let gelu_tanh = |x: f64| x * logistic(2.0 * (2.0 / core::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x));
        for x in grid(-8.0, 8.0) {
            let exact = f64::from(x);
            for (kind, expected) in [
                (ActivationKind::Gelu, gelu(exact)),
                (ActivationKind::GeluTanh, gelu_tanh(exact)),
                (ActivationKind::QuickGelu, exact * logistic(1.702 * exact)),
                (ActivationKind::Silu, exact * logistic(exact)),
            ] {
                let difference = (f64::from(activate(kind, x)) - expected).abs();
                assert!(difference <= 2e-6, "{kind:?} {x}: {difference:e}");
            }
            assert!((f64::from(tanh(x)) - exact.tanh()).abs() <= 2e-7, "tanh {x}");
        }
    }
}
