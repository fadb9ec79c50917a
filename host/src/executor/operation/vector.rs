//! Elementary functions and reductions that the compiler turns into SIMD code.
//!
//! Everything here is branch-free and inlined into an operation that [`pulp`] compiles for the
//! instruction set of the machine.

pub use pulp::NullaryFnOnce;

/// Independent partial results of a reduction: one AVX-512 register of f32.
const LANES: usize = 16;

/// Runs `operation` compiled for the widest instruction set of this machine.
///
/// It is a struct whose `call` is `#[inline(always)]`: the body of a closure may stay outside the
/// function that has the instruction set, and is then compiled for the oldest one.
pub fn vectorised<O: NullaryFnOnce>(operation: O) -> O::Output {
    pulp::Arch::new().dispatch(operation)
}

/// `e^x` to 3e-7 relative, for `x` from -87 to 88; beyond, the value at the end.
///
/// `x = n ln 2 + r`, and a polynomial of degree 6 (the Cephes coefficients of `expf`) for `e^r`.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, x));
    let polynomial = 1.987_569_1e-4_f32
        .mul_add(r, 1.398_2e-3)
        .mul_add(r, 8.333_452e-3)
        .mul_add(r, 4.166_579_6e-2)
        .mul_add(r, 0.166_666_65)
        .mul_add(r, 0.5);
    let power = (r * r).mul_add(polynomial, r + 1.0);
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    power * f32::from_bits(exponent)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The standard normal distribution function and density at `x`, to 1.5e-7 absolute:
/// Abramowitz and Stegun 7.1.26 for the error function.
#[inline(always)]
pub fn normal(x: f32) -> (f32, f32) {
    let magnitude = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let gauss = exp(-0.5 * x * x);
    let t = 1.0 / magnitude.mul_add(0.327_591_1, 1.0);
    let series = 1.061_405_4_f32
        .mul_add(t, -1.453_152_1)
        .mul_add(t, 1.421_413_8)
        .mul_add(t, -0.284_496_72)
        .mul_add(t, 0.254_829_6);
    let upper_tail = 0.5 * series * t * gauss;
    let distribution = if x < 0.0 { upper_tail } else { 1.0 - upper_tail };
    (distribution, gauss * 0.398_942_3)
}

/// The sum of `of(x, y)` over both slices.
#[inline(always)]
fn sum_with(x: &[f32], y: &[f32], of: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x.iter().zip(y) {
        for lane in 0..LANES {
            lanes[lane] += of(x[lane], y[lane]);
        }
    }
    lanes.iter().sum::<f32>() + x_rest.iter().zip(y_rest).map(|(&x, &y)| of(x, y)).sum::<f32>()
}

/// The sum of `x`.
#[inline(always)]
pub fn sum(x: &[f32]) -> f32 {
    sum_with(x, x, |x, _| x)
}

/// The inner product of `x` and `y`.
#[inline(always)]
pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    sum_with(x, y, |x, y| x * y)
}

/// The sum of `(x - centre)^2`.
#[inline(always)]
pub fn squared_deviation(x: &[f32], centre: f32) -> f32 {
    sum_with(x, x, |x, _| (x - centre) * (x - centre))
}

/// The largest of `x`; negative infinity where it is empty.
#[inline(always)]
pub fn maximum(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elementary_functions_agree_with_double_precision() {
        for step in -8700..=8800 {
            let x = step as f32 * 0.01;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 3e-7 * exact, "exp({x})");
        }
        assert_eq!(exp(f32::NEG_INFINITY), exp(-87.0));
    }

    #[test]
    fn the_normal_distribution_has_its_known_values() {
        // Tables: Phi(1) = 0.8413447461, Phi(-2) = 0.0227501319, density(0) = 0.3989422804.
        assert!((normal(1.0).0 - 0.841_344_8).abs() < 2e-7);
        assert!((normal(-2.0).0 - 0.022_750_132).abs() < 2e-7);
        assert!((normal(0.0).0 - 0.5).abs() < 2e-7);
        assert!((normal(0.0).1 - 0.398_942_3).abs() < 1e-7);
    }

    #[test]
    fn reductions_cover_the_remainder() {
        for length in [0, 1, 15, 16, 17, 65] {
            let x: Vec<f32> = (0..length).map(|i| (i % 7) as f32 - 3.0).collect();
            assert_eq!(sum(&x), x.iter().sum::<f32>());
            assert_eq!(dot(&x, &x), x.iter().map(|x| x * x).sum::<f32>());
            assert_eq!(maximum(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
