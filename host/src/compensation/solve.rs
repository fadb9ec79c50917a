//! The matrix that fits the moments of all chosen rungs at once.

use candle_core::{DType, Device, Tensor};
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use super::moments::{Central, Moments};
use super::{CompensationError, Damping};

/// How strongly the weight of a rung falls with its error: 0 counts every rung's squared error alike, so that small
/// rungs, whose errors are large, decide; 1 counts relative errors, so that mild rungs do.
const FALL: f64 = 0.5;

/// No rung counts for more than one whose error is this part of its target.
const LEAST_ERROR: f64 = 1e-4;

/// Weighted sums of central moments; rungs of fewer inputs fill a corner.
pub(super) struct Equations {
    gram: Mat<f64>,
    cross: Mat<f64>,
}

/// Adds the moments of a rung to `sum`, weighted by what the original matrix `[inputs, outputs]` leaves of its error.
pub(super) fn add(sum: &mut Option<Equations>, moments: &Moments, original: &Tensor) -> Result<(), CompensationError> {
    let central = moments.central();
    let original = matrix(original, central.gram.nrows())?;
    let weight = weight(&central, &original);
    let (inputs, outputs) = (central.gram.nrows(), central.cross.ncols());
    let held = sum.as_ref().map_or(0, |sum| sum.gram.nrows());
    if held < inputs {
        let larger = |small: Option<&Mat<f64>>, columns: usize| {
            Mat::from_fn(inputs, columns, |i, j| {
                small.filter(|small| i < small.nrows() && j < small.ncols()).map_or(0.0, |small| small[(i, j)])
            })
        };
        *sum = Some(Equations {
            gram: larger(sum.as_ref().map(|sum| &sum.gram), inputs),
            cross: larger(sum.as_ref().map(|sum| &sum.cross), outputs),
        });
    }
    if let Some(sum) = sum {
        for (sum, part) in [(&mut sum.gram, &central.gram), (&mut sum.cross, &central.cross)] {
            for column in 0..part.ncols() {
                let (sum, part) = (sum.col_as_slice_mut(column), part.col_as_slice(column));
                sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += weight * value);
            }
        }
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
    let inputs = sum.gram.nrows();
    let mut diagonal: Vec<f64> = (0..inputs).map(|i| sum.gram[(i, i)]).collect();
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
    let inputs = sum.gram.nrows();
    let start = matrix(original, inputs)?;
    let ridge = self::ridge(sum, damping, ridge);
    let mut gram = sum.gram.clone();
    (0..inputs).for_each(|i| gram[(i, i)] += ridge);
    let right = Mat::from_fn(inputs, start.ncols(), |i, j| sum.cross[(i, j)] + ridge * start[(i, j)]);
    let singular = || CompensationError::Singular { inputs };
    let solution = gram.llt(Side::Lower).map_err(|_| singular())?.solve(&right);

    let mut weight = original.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    for (i, row) in weight.iter_mut().take(inputs).enumerate() {
        row.iter_mut().enumerate().for_each(|(j, value)| *value = solution[(i, j)] as f32);
    }
    if !weight.iter().flatten().all(|value| value.is_finite()) {
        return Err(singular());
    }
    let outputs = start.ncols();
    let flat: Vec<f32> = weight.into_iter().flatten().collect();
    let weight = Tensor::from_vec(flat, (original.dim(0)?, outputs), &Device::Cpu)?;
    Ok(weight.to_dtype(original.dtype())?.to_device(original.device())?)
}

/// The first rows of a matrix, in f64.
pub(super) fn matrix(tensor: &Tensor, rows: usize) -> candle_core::Result<Mat<f64>> {
    let values = tensor.narrow(0, 0, rows)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    Ok(Mat::from_fn(rows, tensor.dim(1)?, |i, j| f64::from(values[i][j])))
}
