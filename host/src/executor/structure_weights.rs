//! The weights that structures consist of: what baselines judge them by.

use candle_core::{DType, Result, Tensor};

use super::block::{Block, Mlp};
use super::model::CandleVit;

/// The sum of squares of all weights of each structure of a block; biases do not count.
#[derive(Clone, Debug, PartialEq)]
pub struct SquaredNorms {
    /// Of query, key and value rows, and of the columns of the projection.
    pub heads: Vec<f64>,
    /// Of the rows into a neuron, and of its column of the down layer.
    pub neurons: Vec<f64>,
}

impl CandleVit {
    /// The squared norms of the structures of `block`. Layer scales are part of the last layers.
    ///
    /// # Errors
    /// If the device fails.
    pub fn squared_norms(&self, block: usize) -> Result<SquaredNorms> {
        let block = &self.blocks[block];
        let mut heads = row_squares(&block.projection.weight)?;
        let packed = row_squares(&block.packed.weight)?;
        for part in packed.chunks_exact(heads.len()) {
            heads.iter_mut().zip(part).for_each(|(sum, square)| *sum += square);
        }
        let heads = heads.chunks_exact(self.head_dim()).map(|rows| rows.iter().sum()).collect();
        let layers = match &block.mlp {
            Mlp::Plain { up, down } => vec![up, down],
            Mlp::Gated { gate, up, down } => vec![gate, up, down],
        };
        let mut neurons = vec![0.0; self.neurons()];
        for layer in layers {
            neurons.iter_mut().zip(row_squares(&layer.weight)?).for_each(|(sum, square)| *sum += square);
        }
        Ok(SquaredNorms { heads, neurons })
    }

    /// The weights whose gradients a [`BlockGradient`](super::BlockGradient) has, layer by layer in its order, row by
    /// row.
    ///
    /// # Errors
    /// If the device fails.
    pub fn structure_rows(&self, block: usize) -> Result<Vec<Vec<f32>>> {
        let Block { packed, mlp, .. } = &self.blocks[block];
        let width = self.heads() * self.head_dim();
        let values = packed.weight.narrow(0, 2 * width, width)?;
        let neurons = match mlp {
            Mlp::Plain { up, .. } => vec![&up.weight],
            Mlp::Gated { gate, up, .. } => vec![&gate.weight, &up.weight],
        };
        std::iter::once(&values).chain(neurons).map(flat).collect()
    }
}

/// The sum of squares of every row of a matrix.
fn row_squares(weight: &Tensor) -> Result<Vec<f64>> {
    let square_sum = |row: &[f32]| row.iter().map(|&value| f64::from(value).powi(2)).sum();
    Ok(flat(weight)?.chunks_exact(weight.dim(1)?).map(square_sum).collect())
}

fn flat(weight: &Tensor) -> Result<Vec<f32>> {
    weight.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}
