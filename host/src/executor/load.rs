//! Tensors of a description, checked and put on a device.

use candle_core::{DType, Device, Tensor};
use headroom_device::model::Weights;
use headroom_device::model::description::{self, TensorRef};

use super::error::{ExecutorError, Result};
use super::linear::Linear;
use super::operation::layer_norm::LayerNorm;
use super::operation::product::Stored;

/// Where tensors come from and go to.
pub(super) struct Loader<'a> {
    pub weights: &'a Weights,
    pub device: &'a Device,
    pub dtype: DType,
}

impl Loader<'_> {
    /// The values of a tensor that must have `count` of them.
    pub fn values(&self, reference: &TensorRef, count: usize) -> Result<&[f32]> {
        let values = self.weights.values(reference)?;
        if values.len() != count {
            let name = reference.name.clone();
            return Err(ExecutorError::Size { name, expected: count, found: values.len() });
        }
        Ok(values)
    }

    /// `values` on the device.
    pub fn put(&self, values: &[f32], shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_slice(values, shape, &Device::Cpu)?.to_dtype(self.dtype)?.to_device(self.device)?)
    }

    /// The tensor of a reference, in that shape.
    pub fn tensor(&self, reference: &TensorRef, shape: &[usize]) -> Result<Tensor> {
        self.put(self.values(reference, shape.iter().product())?, shape)
    }

    /// A norm of that width.
    pub fn norm(&self, norm: &description::LayerNorm, width: usize) -> Result<LayerNorm> {
        Ok(LayerNorm {
            weight: self.tensor(&norm.weight, &[width])?,
            bias: self.tensor(&norm.bias, &[width])?,
            eps: norm.eps,
        })
    }

    /// A layer with its weight as `[out, in]`.
    pub fn linear(&self, linear: &description::Linear, inputs: usize, outputs: usize) -> Result<Linear> {
        Ok(Linear {
            weight: self.tensor(&linear.weight, &[outputs, inputs])?,
            stored: Stored::Transposed,
            bias: linear.bias.as_ref().map(|bias| self.tensor(bias, &[outputs])).transpose()?,
        })
    }

    /// Layers on the same input joined into one, `[out of all, in]`. An absent bias among present ones is zero.
    pub fn joined(&self, linears: &[&description::Linear], inputs: usize, outputs: usize) -> Result<Linear> {
        let mut weight = Vec::with_capacity(linears.len() * outputs * inputs);
        let mut bias = Vec::with_capacity(linears.len() * outputs);
        for linear in linears {
            weight.extend_from_slice(self.values(&linear.weight, outputs * inputs)?);
            match &linear.bias {
                Some(reference) => bias.extend_from_slice(self.values(reference, outputs)?),
                None => bias.resize(bias.len() + outputs, 0.0),
            }
        }
        let rows = linears.len() * outputs;
        let has_bias = linears.iter().any(|linear| linear.bias.is_some());
        Ok(Linear {
            weight: self.put(&weight, &[rows, inputs])?,
            stored: Stored::Transposed,
            bias: if has_bias { Some(self.put(&bias, &[rows])?) } else { None },
        })
    }

    /// The last layer of a branch, as `[in, out]` and with the branch's layer scale multiplied in,
    /// which is the same function: `s (x W^T + b) = x (s W)^T + s b`.
    pub fn branch_end(
        &self,
        linear: &description::Linear,
        scale: Option<&TensorRef>,
        inputs: usize,
        outputs: usize,
    ) -> Result<Linear> {
        let scale = scale.map(|scale| self.values(scale, outputs)).transpose()?;
        let scale = |output: usize| scale.map_or(1.0, |scale| scale[output]);
        let weight = self.values(&linear.weight, outputs * inputs)?;
        let transposed: Vec<f32> = (0..inputs)
            .flat_map(|input| (0..outputs).map(move |output| (input, output)))
            .map(|(input, output)| weight[output * inputs + input] * scale(output))
            .collect();
        let bias = match &linear.bias {
            Some(reference) => {
                let values = self.values(reference, outputs)?;
                let scaled: Vec<f32> = values.iter().enumerate().map(|(output, value)| value * scale(output)).collect();
                Some(self.put(&scaled, &[outputs])?)
            }
            None => None,
        };
        Ok(Linear { weight: self.put(&transposed, &[inputs, outputs])?, stored: Stored::Straight, bias })
    }
}
