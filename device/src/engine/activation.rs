//! The nonlinearities, sixteen lanes at a time.
//!
//! The tests hold the errors against f64: `exp` to 2 units in the last place of f32, activations to 1e-6 absolute
//! over -8 to 8, where PyTorch's own GELU in f32 is at 1.1e-6.

use super::simd::Simd;
use crate::coefficients::{ERF_DENOMINATOR, ERF_EDGE, ERF_NUMERATOR, EXP_TAIL, LN_2_HIGH, LN_2_LOW};
use crate::model::description::Activation;

/// `e^x`; `x` is clamped to -87 to 88, where the result is a normal f32.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::Lanes) -> S::Lanes {
    let x = simd.min(simd.max(x, simd.splat(-87.0)), simd.splat(88.0));
    let n = simd.round(simd.mul(x, simd.splat(std::f32::consts::LOG2_E)));
    let r = simd.mul_add(n, simd.splat(-LN_2_HIGH), x);
    let r = simd.mul_add(n, simd.splat(-LN_2_LOW), r);
    let tail = polynomial(simd, &EXP_TAIL, r);
    let one = simd.splat(1.0);
    let value = simd.mul_add(simd.mul(r, r), tail, simd.add(r, one));
    simd.scale(value, n)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn logistic<S: Simd>(simd: S, x: S::Lanes) -> S::Lanes {
    let one = simd.splat(1.0);
    let negative = simd.sub(simd.splat(0.0), x);
    simd.div(one, simd.add(one, exp(simd, negative)))
}

/// The activation of an MLP.
#[inline(always)]
pub(super) fn activate<S: Simd>(simd: S, activation: Activation, x: S::Lanes) -> S::Lanes {
    match activation {
        Activation::Gelu => simd.mul_add(x, half_error_function(simd, x), simd.mul(x, simd.splat(0.5))),
        Activation::GeluTanh => {
            // 0.5 (1 + tanh(u)) is logistic(2 u), with u = sqrt(2 / pi) (x + 0.044715 x^3).
            let twice = 2.0 * std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
            let square = simd.mul(x, x);
            let factor = simd.mul_add(square, simd.splat(0.044_715 * twice), simd.splat(twice));
            simd.mul(x, logistic(simd, simd.mul(x, factor)))
        }
        Activation::QuickGelu => simd.mul(x, logistic(simd, simd.mul(x, simd.splat(1.702)))),
        Activation::Silu => simd.mul(x, logistic(simd, x)),
    }
}

/// `erf(x / sqrt(2)) / 2`, the normal distribution function less one half.
#[inline(always)]
fn half_error_function<S: Simd>(simd: S, x: S::Lanes) -> S::Lanes {
    let x = simd.min(simd.max(x, simd.splat(-ERF_EDGE)), simd.splat(ERF_EDGE));
    let square = simd.mul(x, x);
    let numerator = simd.mul(x, polynomial(simd, &ERF_NUMERATOR, square));
    simd.div(numerator, polynomial(simd, &ERF_DENOMINATOR, square))
}

/// Coefficients of the highest power first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, coefficients: &[f32; N], x: S::Lanes) -> S::Lanes {
    let mut value = simd.splat(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        value = simd.mul_add(value, x, simd.splat(coefficient));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::super::panel::PANEL;
    use super::super::simd::{InstructionSet, Kernel};
    use super::*;

    #[derive(Clone, Copy)]
    enum Function {
        Exp,
        Activation(Activation),
    }

    struct Apply<'a>(Function, &'a mut [f32]);

    impl Kernel for Apply<'_> {
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let (chunks, _) = self.1.as_chunks_mut::<PANEL>();
            for chunk in chunks {
                let x = simd.load(chunk);
                let y = match self.0 {
                    Function::Exp => exp(simd, x),
                    Function::Activation(activation) => activate(simd, activation, x),
                };
                simd.store(y, chunk);
            }
        }
    }

    fn errors(function: Function, range: std::ops::Range<i32>, error: impl Fn(f64, f64) -> f64) -> f64 {
        let input: Vec<f32> = range.map(|step| step as f32 / 1024.0).collect();
        let mut worst = 0.0_f64;
        for set in InstructionSet::available() {
            let mut output = input.clone();
            set.run(Apply(function, &mut output));
            for (&x, &y) in input.iter().zip(&output) {
                worst = worst.max(error(f64::from(x), f64::from(y)));
            }
        }
        worst
    }

    #[test]
    fn exp_is_right_to_two_units_in_the_last_place() {
        let worst = errors(Function::Exp, -87 * 1024..88 * 1024, |x, y| (y / x.exp() - 1.0).abs());
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "{worst}");
    }

    #[test]
    fn activations_are_right_to_one_millionth() {
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Silu] {
            let reference = |x: f64| super::super::reference::activation(activation, x);
            let worst = errors(Function::Activation(activation), -8192..8192, |x, y| (y - reference(x)).abs());
            assert!(worst < 1e-6, "{activation:?}: {worst}");
        }
    }

    #[test]
    fn extreme_inputs_stay_finite() {
        for set in InstructionSet::available() {
            for activation in [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Silu] {
                let mut values =
                    [-1e30, -1e4, -0.0, 0.0, 1e-30, 1e4, 1e30, 1.0, -1.0, 20.0, -20.0, 5.2, -5.2, 90.0, -90.0, 3.0];
                set.run(Apply(Function::Activation(activation), &mut values));
                assert!(values.iter().all(|value| value.is_finite()), "{activation:?} {values:?}");
            }
        }
    }
}
