//! Another basis of the values inside each head, in which the first dimensions
//! carry the most: what makes single dimensions worth ranking.
//!
//! A head's output is `P c`, with its columns `P` of the projection and the
//! weighted sums `c` of its values. For any invertible `R`, values `R v` and
//! columns `P R^-1` compute the same. With the second moments `C = E c c^T` over
//! calibration tokens and the singular value decomposition `P C^1/2 = U S W^T`,
//! the basis `R = W^T C^-1/2` makes the dimensions of `c` uncorrelated and their
//! columns orthogonal, so that what is lost with the last `k` dimensions, in the
//! mean square of the head's output, is the least that any `k` can lose (Eckart
//! and Young 1936, doi 10.1007/BF02288367). Rows and columns of a dimension are
//! then scaled to equal norms, so that half precision holds both.
//!
//! Biases of the values follow them. Queries and keys are untouched, so rotary
//! positions do not matter.
//!
//! Limits: the new weights are rounded to the precision in which the checkpoint
//! stores them, so the dense model is the same function but for rounding.

mod error;

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::DType;
use faer::{Mat, MatRef, Side};
use headroom_device::model::Description;
use headroom_device::model::description::{Linear, TensorRef};
use headroom_device::model::safetensors::{narrow, widen};
use headroom_device::model::weights::{Tensor, Weights, WeightsError};
use rayon::prelude::*;
use safetensors::Dtype;

use crate::executor::{Branch, CandleVit, ExecutorError, Stream};

pub use error::ValueBasisError;

/// Tokens that one product holds together.
const TOKENS_TOGETHER: usize = 1024;

/// Directions that vary less than this part of the most varying one are taken to vary so much: their inverse would be
/// made of rounding.
const LEAST_VARIANCE: f64 = 1e-6;

/// The tensors of a model that the new basis changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValueBasis {
    changed: Weights,
}

impl ValueBasis {
    /// The basis of every head of `model`, which has `weights`, on `pixels` `[images, 3, height, width]` (normalised);
    /// tensors rounded to `dtype`. The result does not depend on the number of threads. `progress` is called with the
    /// blocks done.
    ///
    /// # Errors
    /// If the pixels are not whole images, the model fails, a value is not finite, or `interrupt` is set.
    pub fn fit(
        model: &CandleVit,
        description: &Description,
        weights: &Weights,
        pixels: &[f32],
        dtype: Dtype,
        interrupt: &AtomicBool,
        progress: &(dyn Fn(usize) + Sync),
    ) -> Result<Self, ValueBasisError> {
        let mut basis = Self::default();
        let mut streams = model.streams(pixels, TOKENS_TOGETHER)?;
        for (index, block) in description.blocks.iter().enumerate() {
            if interrupt.load(Ordering::Relaxed) {
                return Err(ValueBasisError::Interrupted { blocks: index });
            }
            let mut seconds = vec![Mat::<f64>::zeros(description.head_dim, description.head_dim); description.heads];
            for (branch, kept) in Branch::ALL.map(|branch| (branch, model.whole())) {
                let (weight, bias) = model.branch_end(index, branch).map_err(ExecutorError::from)?;
                let inputs: Vec<_> = streams
                    .par_iter()
                    .map(|stream| model.branch_inputs(index, branch, kept, stream))
                    .collect::<candle_core::Result<_>>()
                    .map_err(ExecutorError::from)?;
                if branch == Branch::Attention {
                    for inputs in inputs.iter().flatten() {
                        add_second_moments(&mut seconds, inputs, description.head_dim).map_err(ExecutorError::from)?;
                    }
                }
                let advance = |(stream, inputs): (&mut Stream, &Option<candle_core::Tensor>)| {
                    stream.advance(inputs.as_ref(), &weight, &bias)
                };
                streams.par_iter_mut().zip(&inputs).try_for_each(advance).map_err(ExecutorError::from)?;
            }
            for (head, second) in seconds.into_iter().enumerate() {
                let columns = basis.columns(weights, &block.projection, description, head)?;
                let rows = basis.rows(weights, &block.value.weight, description, head)?;
                let rotation = Rotation::new(&second, &columns).map(|rotation| rotation.balanced(&rows, &columns));
                let rotation = rotation.ok_or(ValueBasisError::NotFinite { block: index, head })?;
                basis.rotate(weights, &block.value, &block.projection, description, head, &rotation)?;
            }
            progress(index + 1);
        }
        basis.round(dtype)?;
        Ok(basis)
    }

    /// [`Self::changed`], without a copy.
    #[must_use]
    pub fn into_changed(self) -> Weights {
        self.changed
    }

    /// The tensors that are different now; everything else is as it was.
    #[must_use]
    pub fn changed(&self) -> &Weights {
        &self.changed
    }

    /// Puts the weights into this basis.
    pub fn apply(&self, weights: &mut Weights) {
        for (name, tensor) in self.changed.iter() {
            weights.insert(name, tensor.clone());
        }
    }

    /// Puts the dimensions of every head into the order of falling `scores` `[blocks][heads * head_dim]`, scores and
    /// tensors alike; equal scores keep their order.
    ///
    /// # Errors
    /// If the basis is of another model.
    pub fn sort(&mut self, description: &Description, scores: &mut [Vec<f64>]) -> Result<(), ValueBasisError> {
        let width = description.head_dim;
        for (block, scores) in description.blocks.iter().zip(scores) {
            for (head, scores) in scores.chunks_exact_mut(width).enumerate() {
                let mut order: Vec<usize> = (0..width).collect();
                order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
                let old = scores.to_vec();
                scores.iter_mut().zip(&order).for_each(|(score, &from)| *score = old[from]);
                let sorted = Rotation::order(&order);
                let unchanged = Weights::default();
                self.rotate(&unchanged, &block.value, &block.projection, description, head, &sorted)?;
            }
        }
        Ok(())
    }

    /// The projection's columns of a head, `[embed_dim, head_dim]`.
    fn columns(
        &mut self,
        weights: &Weights,
        projection: &Linear,
        description: &Description,
        head: usize,
    ) -> Result<Mat<f64>, ValueBasisError> {
        let width = description.heads * description.head_dim;
        let data = &self.tensor(weights, &projection.weight)?.data;
        Ok(Mat::from_fn(description.embed_dim, description.head_dim, |row, column| {
            f64::from(data[row * width + head * description.head_dim + column])
        }))
    }

    /// The values' rows of a head, `[head_dim, embed_dim]`.
    fn rows(
        &mut self,
        weights: &Weights,
        value: &TensorRef,
        description: &Description,
        head: usize,
    ) -> Result<Mat<f64>, ValueBasisError> {
        let (dim, width) = (description.head_dim, description.embed_dim);
        let first = value.rows.map_or(0, |(first, _)| first) + head * dim;
        let data = &self.tensor(weights, value)?.data;
        Ok(Mat::from_fn(dim, width, |row, column| f64::from(data[(first + row) * width + column])))
    }

    fn rotate(
        &mut self,
        weights: &Weights,
        value: &Linear,
        projection: &Linear,
        description: &Description,
        head: usize,
        rotation: &Rotation,
    ) -> Result<(), ValueBasisError> {
        let (dim, attended) = (description.head_dim, description.heads * description.head_dim);
        let inputs = description.embed_dim;
        for (tensor, width) in std::iter::once((&value.weight, inputs)).chain(value.bias.iter().map(|bias| (bias, 1))) {
            let first = tensor.rows.map_or(0, |(first, _)| first) + head * dim;
            let data = &mut self.tensor(weights, tensor)?.data;
            let rows = &mut data[first * width..(first + dim) * width];
            let old = Mat::from_fn(dim, width, |row, column| f64::from(rows[row * width + column]));
            let new = &rotation.values * old;
            rows.iter_mut().enumerate().for_each(|(at, value)| *value = new[(at / width, at % width)] as f32);
        }
        let columns = self.columns(weights, projection, description, head)? * &rotation.columns;
        let data = &mut self.tensor(weights, &projection.weight)?.data;
        for row in 0..inputs {
            for column in 0..dim {
                data[row * attended + head * dim + column] = columns[(row, column)] as f32;
            }
        }
        Ok(())
    }

    /// The tensor as it is now.
    fn tensor(&mut self, weights: &Weights, named: &TensorRef) -> Result<&mut Tensor, ValueBasisError> {
        if self.changed.get(&named.name).is_none() {
            let missing = || WeightsError::Missing { name: named.name.clone() };
            self.changed.insert(named.name.clone(), weights.get(&named.name).ok_or_else(missing)?.clone());
        }
        self.changed.get_mut(&named.name).ok_or_else(|| WeightsError::Missing { name: named.name.clone() }.into())
    }

    fn round(&mut self, dtype: Dtype) -> Result<(), ValueBasisError> {
        let names: Vec<String> = self.changed.iter().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            if let Some(tensor) = self.changed.get_mut(&name) {
                let rounded = widen(dtype, &narrow(dtype, &tensor.data));
                tensor.data = rounded.filter(|data| data.iter().all(|value| value.is_finite())).ok_or(
                    // A basis that half precision cannot hold.
                    ValueBasisError::Range { name, dtype },
                )?;
            }
        }
        Ok(())
    }
}

/// `R` and `R^-1`.
struct Rotation {
    values: Mat<f64>,
    columns: Mat<f64>,
}

impl Rotation {
    /// The basis of a head with second moments `second` and projection columns `columns`; `None` if a value is not
    /// finite.
    fn new(second: &Mat<f64>, columns: &Mat<f64>) -> Option<Self> {
        let dim = second.nrows();
        let eigen = second.self_adjoint_eigen(Side::Lower).ok()?;
        let (vectors, variances) = (eigen.U(), eigen.S().column_vector());
        let most = variances[dim - 1];
        if !most.is_finite() {
            return None;
        }
        // A head that finds nothing, such as one of zeros, is left as it is.
        let least = most * LEAST_VARIANCE;
        if least <= 0.0 {
            return Some(Self { values: Mat::identity(dim, dim), columns: Mat::identity(dim, dim) });
        }
        let scaled = |power: f64| {
            let scaled = Mat::from_fn(dim, dim, |i, j| vectors[(i, j)] * variances[j].max(least).powf(power));
            scaled * vectors.transpose()
        };
        let (root, inverse) = (scaled(0.5), scaled(-0.5));
        let weighted = columns * &root;
        let right = (weighted.transpose() * &weighted).self_adjoint_eigen(Side::Lower).ok()?;
        // The largest first.
        let turned = Mat::from_fn(dim, dim, |i, j| right.U()[(i, dim - 1 - j)]);
        let values = turned.transpose() * &inverse;
        let columns = &root * turned;
        Some(Self { values, columns })
    }

    /// The same with every dimension's row and column of equal norms.
    fn balanced(self, rows: &Mat<f64>, columns: &Mat<f64>) -> Self {
        let (new_rows, new_columns) = (&self.values * rows, columns * &self.columns);
        let scale = |dim: usize| {
            let scale = (new_columns.col(dim).norm_l2() / new_rows.row(dim).norm_l2()).sqrt();
            // One of zeros has nothing to balance.
            if scale.is_finite() && scale > 0.0 { scale } else { 1.0 }
        };
        let scales: Vec<f64> = (0..rows.nrows()).map(scale).collect();
        let Self { values, columns } = self;
        Self {
            values: Mat::from_fn(values.nrows(), values.ncols(), |i, j| values[(i, j)] * scales[i]),
            columns: Mat::from_fn(columns.nrows(), columns.ncols(), |i, j| columns[(i, j)] / scales[j]),
        }
    }

    /// Dimension `order[i]` at place `i`.
    fn order(order: &[usize]) -> Self {
        let dim = order.len();
        let is = |new: usize, old: usize| if order[new] == old { 1.0 } else { 0.0 };
        Self { values: Mat::from_fn(dim, dim, is), columns: Mat::from_fn(dim, dim, |old, new| is(new, old)) }
    }
}

/// Adds `c c^T` of every head.
fn add_second_moments(
    seconds: &mut [Mat<f64>],
    inputs: &candle_core::Tensor,
    head_dim: usize,
) -> candle_core::Result<()> {
    let values: Vec<f32> = inputs.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    let (rows, width) = inputs.dims2()?;
    let all = MatRef::from_row_major_slice(&values, rows, width);
    seconds.par_iter_mut().enumerate().for_each(|(head, second)| {
        let own = all.subcols(head * head_dim, head_dim);
        let product = own.transpose() * own;
        for column in 0..head_dim {
            for row in 0..head_dim {
                second[(row, column)] += f64::from(product[(row, column)]);
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests;
