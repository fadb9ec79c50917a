//! Linear layers as the executor holds them.

use candle_core::{Result, Tensor};

use super::operation::product::{Start, Stored, product, shifted};

/// `y = x W^T + b`.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    /// `[out, in]`, or `[in, out]` where prefixes of the inputs must be contiguous.
    pub weight: Tensor,
    /// How `W^T` is stored in `weight`: [`Stored::Transposed`] if it is `[out, in]`.
    pub stored: Stored,
    /// `[out]`.
    pub bias: Option<Tensor>,
}

impl Linear {
    /// `y` for the rows `x`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        product(Start { bias: self.bias.as_ref(), matrix: None }, x, &self.weight, self.stored)
    }

    /// `residual + y`.
    pub fn forward_onto(&self, residual: &Tensor, x: &Tensor) -> Result<Tensor> {
        product(Start { bias: self.bias.as_ref(), matrix: Some(residual) }, x, &self.weight, self.stored)
    }

    /// `residual + b`: what is left of [`Self::forward_onto`] when no input is kept.
    pub fn bias_onto(&self, residual: &Tensor) -> Result<Tensor> {
        self.bias.as_ref().map_or_else(|| Ok(residual.clone()), |bias| shifted(residual, bias))
    }

    /// The gradient at `x`, plus `beside`, from the gradient at `y`.
    pub fn backward(&self, gradient: &Tensor, beside: Option<&Tensor>) -> Result<Tensor> {
        product(Start { bias: None, matrix: beside }, gradient, &self.weight, self.stored.flipped())
    }

    /// The layer that gives the first `count` outputs; `weight` is `[out, in]`.
    pub fn first_outputs(&self, count: usize) -> Result<Self> {
        let bias = self.bias.as_ref().map(|bias| bias.narrow(0, 0, count)).transpose()?;
        Ok(Self { weight: self.weight.narrow(0, 0, count)?, stored: self.stored, bias })
    }

    /// The layer that takes the first `count` inputs; `weight` is `[in, out]`.
    pub fn first_inputs(&self, count: usize) -> Result<Self> {
        Ok(Self { weight: self.weight.narrow(0, 0, count)?, stored: self.stored, bias: self.bias.clone() })
    }
}
