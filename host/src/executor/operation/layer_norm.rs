//! LayerNorm over the token width, with the biased variance.

use candle_core::{D, Device, Result, Tensor};

use super::vector::{self, NullaryFnOnce, vectorised};
use super::{is_fused, values, widened};

/// Weight and bias `[width]`, and what is added to the variance.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    pub weight: Tensor,
    pub bias: Tensor,
    pub eps: f64,
}

impl LayerNorm {
    /// `x` normalised; any shape whose last dimension is the width.
    ///
    /// # Errors
    /// If the widths disagree.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if !is_fused(&[x, &self.weight, &self.bias]) {
            let (normalised, _) = self.normalised(x)?;
            return normalised.to_dtype(x.dtype())?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias);
        }
        let (x_values, weight, bias) = (values(x)?, values(&self.weight)?, values(&self.bias)?);
        self.check_width(x)?;
        let mut out = vec![0.0; x_values.len()];
        vectorised(Normalise { x: &x_values, weight: &weight, bias: &bias, eps: self.eps as f32, out: &mut out });
        Tensor::from_vec(out, x.shape(), &Device::Cpu)
    }

    /// The gradient at the input `x`, plus `beside`: the gradient that reaches `x` on the residual path.
    ///
    /// # Errors
    /// If the shapes disagree.
    pub fn backward(&self, x: &Tensor, gradient: &Tensor, beside: Option<&Tensor>) -> Result<Tensor> {
        let operands = [Some(x), Some(gradient), Some(&self.weight), beside];
        if x.shape() != gradient.shape() || beside.is_some_and(|beside| beside.shape() != x.shape()) {
            candle_core::bail!("LayerNorm of {:?} with a gradient of {:?}", x.shape(), gradient.shape());
        }
        if !is_fused(&operands.into_iter().flatten().collect::<Vec<_>>()) {
            return self.composite_backward(x, gradient, beside);
        }
        self.check_width(x)?;
        let (x_values, gradient, weight) = (values(x)?, values(gradient)?, values(&self.weight)?);
        let mut out = match beside {
            Some(beside) => values(beside)?.to_vec(),
            None => vec![0.0; x_values.len()],
        };
        let eps = self.eps as f32;
        vectorised(NormaliseBackward { x: &x_values, gradient: &gradient, weight: &weight, eps, out: &mut out });
        Tensor::from_vec(out, x.shape(), &Device::Cpu)
    }

    fn composite_backward(&self, x: &Tensor, gradient: &Tensor, beside: Option<&Tensor>) -> Result<Tensor> {
        let (normalised, scale) = self.normalised(x)?;
        let scaled = widened(&gradient.broadcast_mul(&self.weight)?)?;
        let along = (&scaled * &normalised)?.mean_keepdim(D::Minus1)?;
        let centred = scaled.broadcast_sub(&scaled.mean_keepdim(D::Minus1)?)?;
        let out = (centred - normalised.broadcast_mul(&along)?)?.broadcast_mul(&scale)?.to_dtype(x.dtype())?;
        match beside {
            Some(beside) => beside + out,
            None => Ok(out),
        }
    }

    /// `(x - mean) / deviation` and `1 / deviation`, composite.
    fn normalised(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let x = widened(x)?;
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let scale = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?.recip()?;
        Ok((centred.broadcast_mul(&scale)?, scale))
    }

    fn check_width(&self, x: &Tensor) -> Result<()> {
        let (width, expected) = (x.dim(D::Minus1)?, self.weight.elem_count());
        if width != expected || self.bias.elem_count() != expected {
            candle_core::bail!("LayerNorm of width {expected} on tokens of width {width}");
        }
        Ok(())
    }
}

/// The LayerNorm of every row.
struct Normalise<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl NullaryFnOnce for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = self.weight.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            let (mean, scale) = statistics(x, self.eps);
            for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(self.weight).zip(self.bias) {
                *out = (x - mean) * scale * weight + bias;
            }
        }
    }
}

/// Adds the gradient at the input of every row to `out`.
struct NormaliseBackward<'a> {
    x: &'a [f32],
    gradient: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl NullaryFnOnce for NormaliseBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = self.weight.len();
        let mut scaled = vec![0.0; width];
        let rows = self.x.chunks_exact(width).zip(self.gradient.chunks_exact(width));
        for ((x, gradient), out) in rows.zip(self.out.chunks_exact_mut(width)) {
            let (mean, scale) = statistics(x, self.eps);
            for ((scaled, gradient), weight) in scaled.iter_mut().zip(gradient).zip(self.weight) {
                *scaled = gradient * weight;
            }
            let total = vector::sum(&scaled);
            let along = (vector::dot(&scaled, x) - mean * total) * scale / width as f32;
            let constant = total / width as f32;
            for ((out, scaled), x) in out.iter_mut().zip(&scaled).zip(x) {
                *out += scale * (scaled - constant - (x - mean) * scale * along);
            }
        }
    }
}

/// The mean of a row and `1 / sqrt(variance + eps)`.
#[inline(always)]
fn statistics(x: &[f32], eps: f32) -> (f32, f32) {
    let mean = vector::sum(x) / x.len() as f32;
    let variance = vector::squared_deviation(x, mean) / x.len() as f32;
    (mean, 1.0 / (variance + eps).sqrt())
}
