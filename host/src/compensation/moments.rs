//! Second moments of a layer's inputs and targets, summed in a fixed order.

use candle_core::{DType, Result, Tensor};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

use super::CompensationError;

/// Parts that batches are divided into and summed in: a constant, so that the result does not depend on the number of
/// threads.
const PARTS: usize = 4;

/// Sums over rows of inputs `a` and targets `t`.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    rows: f64,
    inputs: Vec<f64>,
    targets: Vec<f64>,
    /// `a a^T`.
    gram: Mat<f64>,
    /// `a t^T`, `[inputs, targets]`.
    cross: Mat<f64>,
    /// `|t|^2`.
    energy: f64,
}

/// Central second moments.
pub(super) struct Central {
    /// `E a a^T`, `[inputs, inputs]`.
    pub gram: Mat<f64>,
    /// `E a t^T`, `[inputs, targets]`.
    pub cross: Mat<f64>,
    /// `E |t|^2`.
    pub energy: f64,
}

impl Moments {
    /// The moments of all batches; `None` if `batch` gives none.
    ///
    /// # Errors
    /// If `batch` fails.
    pub(super) fn sum(
        batches: usize,
        batch: impl Fn(usize) -> Result<Option<(Tensor, Tensor)>> + Sync,
    ) -> std::result::Result<Option<Self>, CompensationError> {
        let part = |part: usize| -> Result<Option<Self>> {
            let mut sum: Option<Self> = None;
            for index in batches * part / PARTS..batches * (part + 1) / PARTS {
                if let Some((inputs, targets)) = batch(index)? {
                    sum.get_or_insert_with(|| Self::zeros(inputs.dims()[1], targets.dims()[1]))
                        .add(&values(&inputs)?, &values(&targets)?);
                }
            }
            Ok(sum)
        };
        let parts: Vec<Option<Self>> = (0..PARTS).into_par_iter().map(part).collect::<Result<_>>()?;
        Ok(parts.into_iter().flatten().reduce(Self::merged))
    }

    fn zeros(inputs: usize, targets: usize) -> Self {
        Self {
            rows: 0.0,
            inputs: vec![0.0; inputs],
            targets: vec![0.0; targets],
            gram: Mat::zeros(inputs, inputs),
            cross: Mat::zeros(inputs, targets),
            energy: 0.0,
        }
    }

    /// Adds rows of both. The products are in f32, their sums in f64.
    fn add(&mut self, inputs: &[f32], targets: &[f32]) {
        let (width, outputs) = (self.inputs.len(), self.targets.len());
        let rows = inputs.len() / width;
        let a = MatRef::from_row_major_slice(inputs, rows, width);
        let t = MatRef::from_row_major_slice(targets, rows, outputs);
        for (sum, right) in [(&mut self.gram, a), (&mut self.cross, t)] {
            let mut product = Mat::<f32>::zeros(width, right.ncols());
            matmul(product.as_mut(), Accum::Replace, a.transpose(), right, 1.0, Par::Seq);
            for column in 0..right.ncols() {
                let (sum, product) = (sum.col_as_slice_mut(column), product.col_as_slice(column));
                sum.iter_mut().zip(product).for_each(|(sum, &value)| *sum += f64::from(value));
            }
        }
        add_rows(&mut self.inputs, inputs);
        add_rows(&mut self.targets, targets);
        self.energy += targets.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
        self.rows += rows as f64;
    }

    fn merged(mut self, later: Self) -> Self {
        self.rows += later.rows;
        self.inputs.iter_mut().zip(later.inputs).for_each(|(sum, value)| *sum += value);
        self.targets.iter_mut().zip(later.targets).for_each(|(sum, value)| *sum += value);
        self.gram += later.gram;
        self.cross += later.cross;
        self.energy += later.energy;
        self
    }

    /// Around the means, for each row.
    pub(super) fn central(&self) -> Central {
        let mean = |sums: &[f64]| sums.iter().map(|sum| sum / self.rows).collect::<Vec<f64>>();
        let (inputs, targets) = (mean(&self.inputs), mean(&self.targets));
        let around = |sums: &Mat<f64>, left: &[f64], right: &[f64]| {
            Mat::from_fn(sums.nrows(), sums.ncols(), |i, j| sums[(i, j)] / self.rows - left[i] * right[j])
        };
        Central {
            gram: around(&self.gram, &inputs, &inputs),
            cross: around(&self.cross, &inputs, &targets),
            energy: self.energy / self.rows - targets.iter().map(|mean| mean * mean).sum::<f64>(),
        }
    }
}

/// The mean of every column over all rows of all batches; `None` if there is no batch.
///
/// # Errors
/// If the device fails.
pub(super) fn column_means(batches: &[Option<Tensor>]) -> Result<Option<Vec<f64>>> {
    let mut sums: Option<Vec<f64>> = None;
    let mut rows = 0;
    for batch in batches.iter().flatten() {
        let (count, width) = batch.dims2()?;
        add_rows(sums.get_or_insert_with(|| vec![0.0; width]), &values(batch)?);
        rows += count;
    }
    Ok(sums.map(|sums| sums.into_iter().map(|sum| sum / rows as f64).collect()))
}

fn add_rows(sums: &mut [f64], values: &[f32]) {
    for row in values.chunks_exact(sums.len()) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}
