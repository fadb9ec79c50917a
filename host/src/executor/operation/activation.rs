//! The nonlinearities of MLPs.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use candle_core::{Device, Result, Tensor};
use headroom_device::model::description::Activation;

use super::vector::{NullaryFnOnce, normal, sigmoid, vectorised};
use super::{is_fused, values};

/// `sqrt(2 / pi)` and the cubic's coefficient in the tanh form of GELU.
const TANH_SCALE: f64 = 0.797_884_560_802_865_4;
const TANH_CUBIC: f64 = 0.044_715;
/// The slope inside the sigmoid of quick GELU.
const QUICK_SLOPE: f64 = 1.702;

/// `activation(x)`.
///
/// # Errors
/// If candle fails.
pub fn activate(activation: Activation, x: &Tensor) -> Result<Tensor> {
    if !is_fused(&[x]) {
        return composite(activation, x);
    }
    let x_values = values(x)?;
    let mut out = vec![0.0; x_values.len()];
    match activation {
        Activation::Gelu => map(&x_values, &mut out, |x| x * normal(x).0),
        Activation::GeluTanh => map(&x_values, &mut out, |x| x * tanh_gate(x).0),
        Activation::QuickGelu => map(&x_values, &mut out, |x| x * sigmoid(QUICK_SLOPE as f32 * x)),
        Activation::Silu => map(&x_values, &mut out, |x| x * sigmoid(x)),
    }
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

/// `activation'(x)`, multiplied by `gradient`.
///
/// # Errors
/// If the shapes disagree.
pub fn activate_backward(activation: Activation, x: &Tensor, gradient: &Tensor) -> Result<Tensor> {
    if x.shape() != gradient.shape() {
        candle_core::bail!("activation of {:?} with a gradient of {:?}", x.shape(), gradient.shape());
    }
    if !is_fused(&[x, gradient]) {
        return composite_slope(activation, x)? * gradient;
    }
    let x_values = values(x)?;
    let mut out = values(gradient)?.to_vec();
    match activation {
        Activation::Gelu => scale(&x_values, &mut out, |x| {
            let (distribution, density) = normal(x);
            x.mul_add(density, distribution)
        }),
        Activation::GeluTanh => scale(&x_values, &mut out, |x| {
            let (gate, slope) = tanh_gate(x);
            x.mul_add(slope, gate)
        }),
        Activation::QuickGelu => scale(&x_values, &mut out, |x| {
            let gate = sigmoid(QUICK_SLOPE as f32 * x);
            gate * (1.0 + QUICK_SLOPE as f32 * x * (1.0 - gate))
        }),
        Activation::Silu => scale(&x_values, &mut out, |x| {
            let gate = sigmoid(x);
            gate * (1.0 + x * (1.0 - gate))
        }),
    }
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

/// The factor of `x` in the tanh form of GELU, and its slope. `(1 + tanh(u)) / 2 = sigmoid(2 u)`.
#[inline(always)]
fn tanh_gate(x: f32) -> (f32, f32) {
    let (scale, cubic) = (2.0 * TANH_SCALE as f32, TANH_CUBIC as f32);
    let gate = sigmoid(scale * x * (cubic * x).mul_add(x, 1.0));
    (gate, gate * (1.0 - gate) * scale * (3.0 * cubic * x).mul_add(x, 1.0))
}

fn map(x: &[f32], out: &mut [f32], function: impl Fn(f32) -> f32) {
    vectorised(Combine { x, out, combine: |_, x| function(x) });
}

fn scale(x: &[f32], out: &mut [f32], factor: impl Fn(f32) -> f32) {
    vectorised(Combine { x, out, combine: |out, x| out * factor(x) });
}

/// `out = combine(out, x)`, element by element.
struct Combine<'a, F> {
    x: &'a [f32],
    out: &'a mut [f32],
    combine: F,
}

impl<F: Fn(f32, f32) -> f32> NullaryFnOnce for Combine<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (out, &x) in self.out.iter_mut().zip(self.x) {
            *out = (self.combine)(*out, x);
        }
    }
}

fn composite_sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

/// What the tanh form of GELU takes the tanh of.
fn tanh_argument(x: &Tensor) -> Result<Tensor> {
    (x + (x.sqr()?.mul(x)? * TANH_CUBIC)?)? * TANH_SCALE
}

fn composite(activation: Activation, x: &Tensor) -> Result<Tensor> {
    match activation {
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::QuickGelu => x * composite_sigmoid(&(x * QUICK_SLOPE)?)?,
        Activation::Silu => x.silu(),
    }
}

fn composite_slope(activation: Activation, x: &Tensor) -> Result<Tensor> {
    let sigmoid_slope = |slope: f64| -> Result<Tensor> {
        let gate = composite_sigmoid(&(x * slope)?)?;
        let inner = (x * slope)?.mul(&gate.affine(-1.0, 1.0)?)?;
        gate * (inner + 1.0)?
    };
    match activation {
        Activation::Gelu => {
            let distribution = (x * FRAC_1_SQRT_2)?.erf()?.affine(0.5, 0.5)?;
            let density = ((x.sqr()? * -0.5)?.exp()? * (1.0 / (2.0 * PI).sqrt()))?;
            distribution + (x * density)?
        }
        Activation::GeluTanh => {
            let tanh = tanh_argument(x)?.tanh()?;
            let inner_slope = (x.sqr()? * (3.0 * TANH_CUBIC))?.affine(TANH_SCALE, TANH_SCALE)?;
            let gate_slope = tanh.sqr()?.affine(-0.5, 0.5)?.mul(&inner_slope)?;
            tanh.affine(0.5, 0.5)? + (x * gate_slope)?
        }
        Activation::QuickGelu => sigmoid_slope(QUICK_SLOPE),
        Activation::Silu => sigmoid_slope(1.0),
    }
}
