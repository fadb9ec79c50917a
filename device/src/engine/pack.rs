//! From tensors to packed weights: every tensor's shape is checked on the way.

use super::error::EngineError;
use super::matmul::{Operand, Product, Segment, Target};
use super::panel::{PANEL, PanelRow, pack_row, panels};
use crate::model::Weights;
use crate::model::description::{LayerNorm, Linear, TensorRef};

/// Reads the tensors that a description names.
#[derive(Clone, Copy)]
pub(super) struct Tensors<'a> {
    pub weights: &'a Weights,
}

/// The weight and bias of a linear layer, `[outputs, inputs]` and `[outputs]`.
#[derive(Clone, Copy)]
pub(super) struct LinearTensors<'a> {
    pub weight: &'a [f32],
    pub bias: Option<&'a [f32]>,
    /// At least 1.
    pub inputs: usize,
}

impl<'a> Tensors<'a> {
    /// A tensor of any shape that flattens to `length` values.
    pub(super) fn flat(self, tensor: &TensorRef, length: usize) -> Result<&'a [f32], EngineError> {
        let values = self.weights.values(tensor)?;
        if values.len() == length { Ok(values) } else { Err(self.mismatch(tensor, format!("{length} values"))) }
    }

    /// A linear layer; its weight may have more dimensions, which flatten to `inputs`.
    pub(super) fn linear(
        self,
        linear: &Linear,
        outputs: usize,
        inputs: usize,
    ) -> Result<LinearTensors<'a>, EngineError> {
        let weight = self.weights.values(&linear.weight)?;
        if self.outputs(linear) != outputs || weight.len() != outputs * inputs {
            return Err(self.mismatch(&linear.weight, format!("[{outputs}, {inputs}]")));
        }
        let bias = linear.bias.as_ref().map(|bias| self.flat(bias, outputs)).transpose()?;
        Ok(LinearTensors { weight, bias, inputs })
    }

    /// The outputs of a layer whose size is known from its tensor alone; 0 if there is none.
    pub(super) fn outputs(self, linear: &Linear) -> usize {
        let rows = || self.weights.get(&linear.weight.name)?.shape.first().copied();
        linear.weight.rows.map(|(_, count)| count).or_else(rows).unwrap_or(0)
    }

    /// The weight and bias of a norm.
    pub(super) fn norm(self, norm: &LayerNorm, width: usize) -> Result<(&'a [f32], &'a [f32]), EngineError> {
        Ok((self.flat(&norm.weight, width)?, self.flat(&norm.bias, width)?))
    }

    fn mismatch(self, tensor: &TensorRef, expected: String) -> EngineError {
        let mut found = self.weights.get(&tensor.name).map(|tensor| tensor.shape.clone()).unwrap_or_default();
        if let (Some((_, count)), Some(rows)) = (tensor.rows, found.first_mut()) {
            *rows = count;
        }
        EngineError::Shape { name: tensor.name.clone(), expected, found }
    }
}

impl<'a> LinearTensors<'a> {
    /// Consecutive outputs of the layer.
    pub(super) fn outputs(self, first: usize, count: usize) -> Self {
        Self {
            weight: &self.weight[first * self.inputs..(first + count) * self.inputs],
            bias: self.bias.map(|bias| &bias[first..first + count]),
            inputs: self.inputs,
        }
    }
}

/// Linear layers side by side, packed in panels of their outputs.
#[derive(Clone, Debug)]
pub(super) struct PackedLinear {
    inputs: usize,
    outputs: usize,
    data: Vec<PanelRow>,
    /// One row for each panel; zeros where a layer has no bias.
    bias: Vec<PanelRow>,
}

impl PackedLinear {
    /// Room for exactly `panels` panels.
    pub(super) fn with_capacity(inputs: usize, panels: usize) -> Self {
        Self { inputs, outputs: 0, data: Vec::with_capacity(panels * inputs), bias: Vec::with_capacity(panels) }
    }

    /// One layer.
    pub(super) fn new(linear: LinearTensors) -> Self {
        let outputs = linear.weight.len() / linear.inputs;
        let mut packed = Self::with_capacity(linear.inputs, panels(outputs));
        packed.push(linear);
        packed
    }

    /// Appends a layer as whole panels of its own.
    pub(super) fn push(&mut self, linear: LinearTensors) {
        self.outputs += linear.weight.len() / self.inputs;
        for (panel, outputs) in linear.weight.chunks(PANEL * self.inputs).enumerate() {
            let first_row = self.data.len();
            self.data.resize(first_row + self.inputs, PanelRow::ZERO);
            let rows = &mut self.data[first_row..];
            for (column, weights) in outputs.chunks_exact(self.inputs).enumerate() {
                for (row, &weight) in rows.iter_mut().zip(weights) {
                    row.0[column] = weight;
                }
            }
            let mut bias = PanelRow::ZERO;
            if let Some(values) = linear.bias {
                let values = values[panel * PANEL..].iter();
                bias.0.iter_mut().zip(values).for_each(|(bias, &value)| *bias = value);
            }
            self.bias.push(bias);
        }
    }

    /// The biases of all panels.
    pub(super) fn bias(&self) -> &[PanelRow] {
        &self.bias
    }

    /// The product of the first `rows` rows of `a` with `count` panels from `first`.
    pub(super) fn product<'a>(
        &'a self,
        a: Operand<'a>,
        rows: usize,
        first: usize,
        count: usize,
        segments: &'a [Segment],
        target: Target<'a>,
    ) -> Product<'a> {
        Product {
            a,
            first_row: 0,
            rows,
            b: Operand { data: &self.data[first * self.inputs..(first + count) * self.inputs], rows: self.inputs },
            panels: count,
            segments,
            bias: &self.bias[first..first + count],
            target,
        }
    }

    /// Panels of all layers together.
    pub(super) fn panels(&self) -> usize {
        self.bias.len()
    }

    /// Outputs of all layers together.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// The inner dimension of all layers.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }
}

/// A vector over the token width, such as a layer scale.
pub(super) fn pack_vector(
    tensors: Tensors,
    tensor: Option<&TensorRef>,
    width: usize,
) -> Result<Option<Vec<PanelRow>>, EngineError> {
    tensor.map(|tensor| Ok(pack_row(tensors.flat(tensor, width)?))).transpose()
}
