//! Second moments of a layer's inputs and targets, summed in a fixed order: products in f32, their sums in f64.
//!
//! On the CPU faer computes them, whose products need half of the work where a matrix is symmetric. On a GPU they are
//! tensor operations ([`device`]), and stay there.

pub(super) mod device;

use candle_core::{DType, Result, Tensor};
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

use device::DeviceMoments;

/// Parts that batches are divided into and summed in: a constant, so that the result does not depend on the number of
/// threads.
pub(crate) const PARTS: usize = 4;

/// Sums over rows of inputs and targets, where those are.
pub(super) enum Moments {
    Host(Box<HostMoments>),
    Device(DeviceMoments),
}

/// Sums over rows of inputs `a` and targets `t`.
#[derive(Clone, Debug)]
pub(super) struct HostMoments {
    rows: f64,
    inputs: Vec<f64>,
    targets: Vec<f64>,
    /// `a a^T`; only the lower triangle counts.
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
    /// If `batch` or the device fails.
    pub(super) fn sum(
        on_host: bool,
        batches: usize,
        batch: impl Fn(usize) -> Result<Option<(Tensor, Tensor)>> + Sync,
    ) -> Result<Option<Self>> {
        if !on_host {
            return Ok(DeviceMoments::sum((0..batches).map(batch))?.map(Self::Device));
        }
        let part = |part: usize| -> Result<Option<HostMoments>> {
            let mut sum: Option<HostMoments> = None;
            for index in batches * part / PARTS..batches * (part + 1) / PARTS {
                let Some((inputs, targets)) = batch(index)? else { continue };
                let (width, outputs) = (inputs.dim(1)?, targets.dim(1)?);
                sum.get_or_insert_with(|| HostMoments::zeros(width, outputs))
                    .add(&values(&inputs)?, &values(&targets)?);
            }
            Ok(sum)
        };
        let parts: Vec<Option<HostMoments>> = (0..PARTS).into_par_iter().map(part).collect::<Result<_>>()?;
        Ok(parts.into_iter().flatten().reduce(HostMoments::merged).map(|sum| Self::Host(Box::new(sum))))
    }
}

impl HostMoments {
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

    /// Adds rows of both.
    fn add(&mut self, inputs: &[f32], targets: &[f32]) {
        let (width, outputs) = (self.inputs.len(), self.targets.len());
        let rows = inputs.len() / width;
        let a = MatRef::from_row_major_slice(inputs, rows, width);
        let t = MatRef::from_row_major_slice(targets, rows, outputs);
        let mut gram = Mat::<f32>::zeros(width, width);
        let (lower, all) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
        triangular::matmul(gram.as_mut(), lower, Accum::Replace, a.transpose(), all, a, all, 1.0, Par::Seq);
        for column in 0..width {
            let (sum, product) = (self.gram.col_as_slice_mut(column), gram.col_as_slice(column));
            add(&mut sum[column..], &product[column..]);
        }
        let mut cross = Mat::<f32>::zeros(width, outputs);
        matmul(cross.as_mut(), Accum::Replace, a.transpose(), t, 1.0, Par::Seq);
        for column in 0..outputs {
            add(self.cross.col_as_slice_mut(column), cross.col_as_slice(column));
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
        let gram = |i: usize, j: usize| self.gram[(i.max(j), i.min(j))] / self.rows - inputs[i] * inputs[j];
        let cross = |i: usize, j: usize| self.cross[(i, j)] / self.rows - inputs[i] * targets[j];
        Central {
            gram: Mat::from_fn(inputs.len(), inputs.len(), gram),
            cross: Mat::from_fn(inputs.len(), targets.len(), cross),
            energy: self.energy / self.rows - targets.iter().map(|mean| mean * mean).sum::<f64>(),
        }
    }
}

/// The mean of every column over all rows of all batches.
///
/// # Errors
/// If the device fails.
pub(super) fn column_means(batches: &[&Tensor]) -> Result<Vec<f64>> {
    match batches.first() {
        Some(batch) if !batch.device().is_cpu() => device::column_means(batches),
        _ => column_means_on_host(batches),
    }
}

fn column_means_on_host(batches: &[&Tensor]) -> Result<Vec<f64>> {
    let sums = |batch: &&Tensor| -> Result<(usize, Vec<f64>)> {
        let (rows, width) = batch.dims2()?;
        let mut sums = vec![0.0; width];
        add_rows(&mut sums, &values(batch)?);
        Ok((rows, sums))
    };
    let sums: Vec<(usize, Vec<f64>)> = batches.par_iter().map(sums).collect::<Result<_>>()?;
    let rows = sums.iter().map(|(rows, _)| rows).sum::<usize>() as f64;
    let mut total = vec![0.0; sums.first().map_or(0, |(_, sums)| sums.len())];
    for (_, sums) in sums {
        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum / rows);
    }
    Ok(total)
}

fn add_rows(sums: &mut [f64], values: &[f32]) {
    values.chunks_exact(sums.len()).for_each(|row| add(sums, row));
}

fn add(sums: &mut [f64], values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += f64::from(value));
}

/// The values of a tensor as plain numbers.
fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn batch(rows: usize, width: usize, seed: usize) -> Tensor {
        let value = |at: usize| ((at * 37 + seed * 101) as f32 * 0.61).sin() + 0.3;
        Tensor::from_vec((0..rows * width).map(value).collect::<Vec<f32>>(), (rows, width), &Device::Cpu).unwrap()
    }

    fn assert_near(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0), "{found} for {expected}");
        }
    }

    /// What a GPU would do runs on the CPU as well.
    #[test]
    fn sums_on_a_device_are_those_of_the_host() {
        let batches: Vec<(Tensor, Tensor)> = (1..5).map(|seed| (batch(9, 6, seed), batch(9, 4, seed + 9))).collect();
        let moments = |on_host| Moments::sum(on_host, batches.len(), |index| Ok(Some(batches[index].clone())));
        let Some(Moments::Host(host)) = moments(true).unwrap() else { panic!("not on the host") };
        let Some(Moments::Device(device)) = moments(false).unwrap() else { panic!("not on the device") };
        let (expected, found) = (host.central(), device.central().unwrap());
        let read = |tensor: &Tensor| tensor.t().unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let flat = |matrix: &Mat<f64>| {
            matrix.col_iter().flat_map(|column| column.iter().copied().collect::<Vec<_>>()).collect::<Vec<f64>>()
        };
        assert_near(&read(&found.gram), &flat(&expected.gram));
        assert_near(&read(&found.cross), &flat(&expected.cross));
        assert_near(&[found.energy.to_scalar().unwrap()], &[expected.energy]);
        let inputs: Vec<&Tensor> = batches.iter().map(|(inputs, _)| inputs).collect();
        assert_near(&device::column_means(&inputs).unwrap(), &column_means_on_host(&inputs).unwrap());
    }

    #[test]
    fn what_varies_little_around_a_large_mean_is_kept() {
        let rows = 4096;
        let value = |row: usize, column: usize| 3.3 + 0.01 * ((row * 37 + column * 11) as f32 * 0.61).sin();
        let values: Vec<f32> = (0..2 * rows * 3).map(|at| value(at / 3, at % 3)).collect();
        let all = Tensor::from_vec(values, (2 * rows, 3), &Device::Cpu).unwrap();
        let batch = |index: usize| all.narrow(0, index * rows, rows);
        let sum = Moments::sum(false, 2, |index| Ok(Some((batch(index)?, batch(index)?)))).unwrap();
        let Some(Moments::Device(device)) = sum else { panic!("not on the device") };
        let found = device.central().unwrap();
        let wide = all.to_dtype(DType::F64).unwrap();
        let centred = wide.broadcast_sub(&wide.mean_keepdim(0).unwrap()).unwrap();
        let expected = (centred.t().unwrap().matmul(&centred).unwrap() / (2 * rows) as f64).unwrap();
        for matrix in [&found.gram, &found.cross] {
            let difference = (matrix - &expected).unwrap().abs().unwrap().max_all().unwrap();
            let difference = difference.to_scalar::<f64>().unwrap();
            assert!(difference < 1e-9, "{difference} beside {expected}");
        }
    }
}
