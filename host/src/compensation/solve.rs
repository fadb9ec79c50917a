//! The matrix that fits the moments of all chosen rungs at once.

use candle_core::{DType, Device, Tensor};
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use super::moments::{Central, Moments};
use super::{CompensationError, Damping};
use crate::executor::KeptInputs;

/// How strongly the weight of a rung falls with its error: 0 counts every rung's squared error alike, so that small
/// rungs, whose errors are large, decide; 1 counts relative errors, so that mild rungs do.
const FALL: f64 = 0.5;

/// No rung counts for more than one whose error is this part of its target.
const LEAST_ERROR: f64 = 1e-4;

/// Weighted sums of central moments over all inputs; those that no rung keeps have none.
pub(super) struct Equations {
    gram: Mat<f64>,
    cross: Mat<f64>,
    /// Whether a rung keeps the input.
    kept: Vec<bool>,
}

/// Adds the moments of a rung to `sum`, weighted by what the original matrix `[inputs, outputs]` leaves of its error.
/// The moments are those of the inputs that are `kept`.
pub(super) fn add(
    sum: &mut Option<Equations>,
    moments: &Moments,
    original: &Tensor,
    kept: &KeptInputs,
) -> Result<(), CompensationError> {
    let central = moments.central();
    let weight = weight(&central, &matrix(&kept.select(original, 0)?)?);
    let (inputs, outputs) = original.dims2()?;
    let sum = sum.get_or_insert_with(|| Equations {
        gram: Mat::zeros(inputs, inputs),
        cross: Mat::zeros(inputs, outputs),
        kept: vec![false; inputs],
    });
    let places: Vec<usize> = kept.iter().collect();
    for (column, &to) in places.iter().enumerate() {
        let (target, part) = (sum.gram.col_as_slice_mut(to), central.gram.col_as_slice(column));
        places.iter().zip(part).for_each(|(&row, value)| target[row] += weight * value);
        sum.kept[to] = true;
    }
    for output in 0..outputs {
        let (target, part) = (sum.cross.col_as_slice_mut(output), central.cross.col_as_slice(output));
        places.iter().zip(part).for_each(|(&row, value)| target[row] += weight * value);
    }
    Ok(())
}

/// One over the rung's mean squared error with the original matrix, to the power [`FALL`].
pub(super) fn weight(central: &Central, original: &Mat<f64>) -> f64 {
    // E |t - W a|^2 = E |t|^2 - 2 tr(W^T C) + tr(W^T G W), with W `[inputs, outputs]`.
    let predicted = &central.gram * original;
    let mut error = central.energy;
    for column in 0..original.ncols() {
        for row in 0..original.nrows() {
            error += original[(row, column)] * (predicted[(row, column)] - 2.0 * central.cross[(row, column)]);
        }
    }
    (error.max(LEAST_ERROR * central.energy).max(f64::MIN_POSITIVE)).powf(-FALL)
}

/// What is added to the diagonal: the part `ridge` of [`Damping`]'s figure.
pub(super) fn ridge(sum: &Equations, damping: Damping, ridge: f64) -> f64 {
    let mut diagonal: Vec<f64> = sum.places().map(|i| sum.gram[(i, i)]).collect();
    let inputs = diagonal.len();
    diagonal.sort_by(f64::total_cmp);
    let figure = match damping {
        Damping::Mean => diagonal.iter().sum::<f64>() / inputs as f64,
        Damping::Max => diagonal[inputs - 1],
        Damping::Percentile => diagonal[(inputs - 1) * 9 / 10],
    };
    // Inputs that never move leave nothing to fit.
    (ridge * figure).max(f64::MIN_POSITIVE.sqrt())
}

/// The matrix `[inputs, outputs]`; inputs that no chosen rung keeps stay as they were.
///
/// # Errors
/// If a moment is not finite.
pub(super) fn solve(
    sum: &Equations,
    original: &Tensor,
    damping: Damping,
    ridge: f64,
) -> Result<Tensor, CompensationError> {
    let places: Vec<usize> = sum.places().collect();
    let inputs = places.len();
    let start = matrix(original)?;
    let ridge = self::ridge(sum, damping, ridge);
    let on_diagonal = |i: usize, j: usize| if i == j { ridge } else { 0.0 };
    let gram = Mat::from_fn(inputs, inputs, |i, j| sum.gram[(places[i], places[j])] + on_diagonal(i, j));
    let right = Mat::from_fn(inputs, start.ncols(), |i, j| sum.cross[(places[i], j)] + ridge * start[(places[i], j)]);
    let singular = || CompensationError::Singular { inputs };
    let solution = gram.llt(Side::Lower).map_err(|_| singular())?.solve(&right);

    let mut weight = original.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    for (i, &row) in places.iter().enumerate() {
        weight[row].iter_mut().enumerate().for_each(|(j, value)| *value = solution[(i, j)] as f32);
    }
    if !weight.iter().flatten().all(|value| value.is_finite()) {
        return Err(singular());
    }
    let flat: Vec<f32> = weight.into_iter().flatten().collect();
    let weight = Tensor::from_vec(flat, original.shape(), &Device::Cpu)?;
    Ok(weight.to_dtype(original.dtype())?.to_device(original.device())?)
}

impl Equations {
    /// The inputs that a rung keeps.
    fn places(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.kept.len()).filter(|&input| self.kept[input])
    }
}

/// A matrix in f64.
pub(super) fn matrix(tensor: &Tensor) -> candle_core::Result<Mat<f64>> {
    let values = tensor.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    Ok(Mat::from_fn(tensor.dim(0)?, tensor.dim(1)?, |i, j| f64::from(values[i][j])))
}
