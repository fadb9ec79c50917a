//! The matrix that fits the moments of all chosen rungs at once.
//!
//! What a GPU has summed is weighted and added there; the host solves.

use candle_core::{DType, Device, Tensor};
use faer::linalg::solvers::Solve;
use faer::{Mat, MatRef, Side};

use super::moments::device::{DeviceCentral, DeviceMoments};
use super::moments::{Central, HostMoments, Moments};
use super::{CompensationError, Damping};
use crate::executor::KeptInputs;
use crate::executor::operation::column_sum::column_sums;

/// How strongly the weight of a rung falls with its error: 0 counts every rung's squared error alike, so that small
/// rungs, whose errors are large, decide; 1 counts relative errors, so that mild rungs do.
const FALL: f64 = 0.5;

/// No rung counts for more than one whose error is this part of its target.
const LEAST_ERROR: f64 = 1e-4;

/// Weighted sums of central moments over all inputs, where those are; inputs that no rung keeps have none.
#[derive(Default)]
pub(super) enum Equations {
    /// Of no rung.
    #[default]
    Empty,
    Host(HostEquations),
    Device(DeviceEquations),
}

/// On the host.
pub(super) struct HostEquations {
    gram: Mat<f64>,
    cross: Mat<f64>,
    /// Whether a rung keeps the input.
    kept: Vec<bool>,
}

/// On a GPU, in f64.
pub(super) struct DeviceEquations {
    gram: Tensor,
    cross: Tensor,
    kept: Vec<bool>,
}

impl Equations {
    /// With the moments of a rung, weighted by what the original matrix `[inputs, outputs]` leaves of its error. The
    /// moments are those of the inputs that are `kept`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn with(self, moments: &Moments, original: &Tensor, kept: &KeptInputs) -> candle_core::Result<Self> {
        let (inputs, outputs) = original.dims2()?;
        match (moments, self) {
            (Moments::Host(moments), Self::Host(sum)) => Ok(Self::Host(sum.with(moments, original, kept)?)),
            (Moments::Host(moments), Self::Empty) => {
                let (gram, cross) = (Mat::zeros(inputs, inputs), Mat::zeros(inputs, outputs));
                let sum = HostEquations { gram, cross, kept: vec![false; inputs] };
                Ok(Self::Host(sum.with(moments, original, kept)?))
            }
            (Moments::Device(moments), Self::Device(sum)) => Ok(Self::Device(sum.with(moments, original, kept)?)),
            (Moments::Device(moments), Self::Empty) => {
                let zeros = |columns| Tensor::zeros((inputs, columns), DType::F64, original.device());
                let sum = DeviceEquations { gram: zeros(inputs)?, cross: zeros(outputs)?, kept: vec![false; inputs] };
                Ok(Self::Device(sum.with(moments, original, kept)?))
            }
            (Moments::Host(_), Self::Device(_)) | (Moments::Device(_), Self::Host(_)) => {
                candle_core::bail!("second moments of one layer on the host and on a device")
            }
        }
    }

    /// The matrix `[inputs, outputs]`; inputs that no chosen rung keeps stay as they were.
    ///
    /// # Errors
    /// If a moment is not finite, or the device fails.
    pub fn solve(self, original: &Tensor, damping: Damping, ridge: f64) -> Result<Tensor, CompensationError> {
        match self.read()? {
            Some(sum) => sum.solve(original, damping, ridge),
            None => Ok(original.clone()),
        }
    }

    /// What the host solves; `None` of no rung.
    pub(super) fn read(self) -> candle_core::Result<Option<HostEquations>> {
        match self {
            Self::Empty => Ok(None),
            Self::Host(sum) => Ok(Some(sum)),
            Self::Device(sum) => sum.read().map(Some),
        }
    }
}

impl DeviceEquations {
    fn with(mut self, moments: &DeviceMoments, original: &Tensor, kept: &KeptInputs) -> candle_core::Result<Self> {
        let central = moments.central()?;
        let weight = weight_on_device(&central, &kept.select(original, 0)?)?;
        let places: Vec<u32> = kept.iter().map(|place| place as u32).collect();
        places.iter().for_each(|&place| self.kept[place as usize] = true);
        let places = Tensor::new(places, original.device())?;
        let (inputs, kept_inputs) = (original.dim(0)?, places.dim(0)?);
        // Row by row, then, as the matrix equals its transpose, column by column.
        let rows = Tensor::zeros((inputs, kept_inputs), DType::F64, original.device())?.index_add(
            &places,
            &central.gram.broadcast_mul(&weight)?,
            0,
        )?;
        self.gram = self.gram.index_add(&places, &rows.t()?.contiguous()?, 0)?;
        self.cross = self.cross.index_add(&places, &central.cross.broadcast_mul(&weight)?, 0)?;
        Ok(self)
    }

    fn read(self) -> candle_core::Result<HostEquations> {
        let matrix = |tensor: &Tensor| -> candle_core::Result<Mat<f64>> {
            let (rows, columns) = tensor.dims2()?;
            let values: Vec<f64> = tensor.flatten_all()?.to_vec1()?;
            Ok(MatRef::from_row_major_slice(&values, rows, columns).to_owned())
        };
        Ok(HostEquations { gram: matrix(&self.gram)?, cross: matrix(&self.cross)?, kept: self.kept })
    }
}

/// As [`weight`].
fn weight_on_device(central: &DeviceCentral, original: &Tensor) -> candle_core::Result<Tensor> {
    let original = original.to_dtype(DType::F32)?.to_dtype(DType::F64)?.contiguous()?;
    let DeviceCentral { gram, cross, energy } = central;
    let left = (gram.matmul(&original)? - (cross * 2.0)?)?;
    let error = (energy + column_sums(&(original * left)?)?.sum_all()?)?;
    error.maximum(&(energy * LEAST_ERROR)?)?.maximum(f64::MIN_POSITIVE)?.powf(-FALL)
}

impl HostEquations {
    fn with(mut self, moments: &HostMoments, original: &Tensor, kept: &KeptInputs) -> candle_core::Result<Self> {
        let central = moments.central();
        let weight = weight(&central, &matrix(&kept.select(original, 0)?)?);
        let places: Vec<usize> = kept.iter().collect();
        for (column, &to) in places.iter().enumerate() {
            let (target, part) = (self.gram.col_as_slice_mut(to), central.gram.col_as_slice(column));
            places.iter().zip(part).for_each(|(&row, value)| target[row] += weight * value);
            self.kept[to] = true;
        }
        for output in 0..self.cross.ncols() {
            let (target, part) = (self.cross.col_as_slice_mut(output), central.cross.col_as_slice(output));
            places.iter().zip(part).for_each(|(&row, value)| target[row] += weight * value);
        }
        Ok(self)
    }

    /// What is added to the diagonal: the part `ridge` of [`Damping`]'s figure.
    pub(super) fn ridge(&self, damping: Damping, ridge: f64) -> f64 {
        let mut diagonal: Vec<f64> = self.places().map(|i| self.gram[(i, i)]).collect();
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

    /// As [`Equations::solve`].
    pub(super) fn solve(&self, original: &Tensor, damping: Damping, ridge: f64) -> Result<Tensor, CompensationError> {
        let places: Vec<usize> = self.places().collect();
        let inputs = places.len();
        let start = matrix(original)?;
        let ridge = self.ridge(damping, ridge);
        let on_diagonal = |i: usize, j: usize| if i == j { ridge } else { 0.0 };
        let gram = Mat::from_fn(inputs, inputs, |i, j| self.gram[(places[i], places[j])] + on_diagonal(i, j));
        let right =
            Mat::from_fn(inputs, start.ncols(), |i, j| self.cross[(places[i], j)] + ridge * start[(places[i], j)]);
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

    /// The inputs that a rung keeps.
    fn places(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.kept.len()).filter(|&input| self.kept[input])
    }
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

/// A matrix in f64.
pub(super) fn matrix(tensor: &Tensor) -> candle_core::Result<Mat<f64>> {
    let values = tensor.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    Ok(Mat::from_fn(tensor.dim(0)?, tensor.dim(1)?, |i, j| f64::from(values[i][j])))
}
