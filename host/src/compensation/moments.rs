//! Second moments of a layer's inputs and targets, summed in a fixed order: products in f32, their sums in f64.
//!
//! On the CPU faer computes them, whose products need half of the work where a matrix is symmetric. On a GPU they are
//! tensor operations, and only the sums come to the host.

use candle_core::{DType, Result, Tensor};
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

use super::CompensationError;

/// Parts that batches are divided into and summed in: a constant, so that the result does not depend on the number of
/// threads.
pub(crate) const PARTS: usize = 4;

/// Sums over rows of inputs `a` and targets `t`.
#[derive(Clone, Debug)]
pub(super) struct Moments {
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
    /// If `batch` fails.
    pub(super) fn sum(
        batches: usize,
        batch: impl Fn(usize) -> Result<Option<(Tensor, Tensor)>> + Sync,
    ) -> std::result::Result<Option<Self>, CompensationError> {
        let part = |part: usize| -> Result<Option<Self>> {
            let mut sum: Option<Sums> = None;
            for index in batches * part / PARTS..batches * (part + 1) / PARTS {
                let Some((inputs, targets)) = batch(index)? else { continue };
                match &mut sum {
                    Some(sum) => sum.add(&inputs, &targets)?,
                    None => sum = Some(Sums::of(&inputs, &targets)?),
                }
            }
            sum.map(Sums::read).transpose()
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

/// Sums so far, where the batches are.
enum Sums {
    Host(Box<Moments>),
    Device(DeviceSums),
}

impl Sums {
    fn of(inputs: &Tensor, targets: &Tensor) -> Result<Self> {
        if !inputs.device().is_cpu() {
            return Ok(Self::Device(DeviceSums::of(inputs, targets)?));
        }
        let mut sums = Self::Host(Box::new(Moments::zeros(inputs.dim(1)?, targets.dim(1)?)));
        sums.add(inputs, targets)?;
        Ok(sums)
    }

    fn add(&mut self, inputs: &Tensor, targets: &Tensor) -> Result<()> {
        match self {
            Self::Host(sums) => sums.add(&values(inputs)?, &values(targets)?),
            Self::Device(sums) => *sums = sums.plus(DeviceSums::of(inputs, targets)?)?,
        }
        Ok(())
    }

    fn read(self) -> Result<Moments> {
        match self {
            Self::Host(sums) => Ok(*sums),
            Self::Device(sums) => sums.read(),
        }
    }
}

/// The sums of [`Moments`] on a device, in f64.
struct DeviceSums {
    rows: usize,
    inputs: Tensor,
    targets: Tensor,
    gram: Tensor,
    cross: Tensor,
    energy: Tensor,
}

impl DeviceSums {
    fn of(inputs: &Tensor, targets: &Tensor) -> Result<Self> {
        let (a, t) = (inputs.to_dtype(DType::F32)?, targets.to_dtype(DType::F32)?);
        let transposed = a.t()?.contiguous()?;
        Ok(Self {
            rows: a.dim(0)?,
            inputs: a.to_dtype(DType::F64)?.sum(0)?,
            targets: t.to_dtype(DType::F64)?.sum(0)?,
            gram: transposed.matmul(&a)?.to_dtype(DType::F64)?,
            cross: transposed.matmul(&t)?.to_dtype(DType::F64)?,
            energy: t.to_dtype(DType::F64)?.sqr()?.sum_all()?,
        })
    }

    fn plus(&self, more: Self) -> Result<Self> {
        Ok(Self {
            rows: self.rows + more.rows,
            inputs: (&self.inputs + more.inputs)?,
            targets: (&self.targets + more.targets)?,
            gram: (&self.gram + more.gram)?,
            cross: (&self.cross + more.cross)?,
            energy: (&self.energy + more.energy)?,
        })
    }

    fn read(self) -> Result<Moments> {
        let matrix = |tensor: &Tensor| -> Result<Mat<f64>> {
            let (rows, columns) = tensor.dims2()?;
            let values: Vec<f64> = tensor.flatten_all()?.to_vec1()?;
            Ok(MatRef::from_row_major_slice(&values, rows, columns).to_owned())
        };
        Ok(Moments {
            rows: self.rows as f64,
            inputs: self.inputs.to_vec1()?,
            targets: self.targets.to_vec1()?,
            gram: matrix(&self.gram)?,
            cross: matrix(&self.cross)?,
            energy: self.energy.to_scalar()?,
        })
    }
}

/// The mean of every column over all rows of all batches.
///
/// # Errors
/// If the device fails.
pub(super) fn column_means(batches: &[&Tensor]) -> Result<Vec<f64>> {
    match batches.first() {
        Some(batch) if !batch.device().is_cpu() => column_means_on_device(batches),
        _ => column_means_on_host(batches),
    }
}

fn column_means_on_device(batches: &[&Tensor]) -> Result<Vec<f64>> {
    let mut rows = 0;
    let mut sums = Vec::with_capacity(batches.len());
    for batch in batches {
        rows += batch.dim(0)?;
        sums.push(batch.to_dtype(DType::F64)?.sum(0)?);
    }
    // Read once: each reading waits for the device.
    (Tensor::stack(&sums, 0)?.sum(0)? / rows as f64)?.to_vec1()
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
        let (inputs, targets) = &batches[0];
        let mut device = DeviceSums::of(inputs, targets).unwrap();
        for (inputs, targets) in &batches[1..] {
            device = device.plus(DeviceSums::of(inputs, targets).unwrap()).unwrap();
        }
        let found = device.read().unwrap();
        let expected = Moments::sum(batches.len(), |index| Ok(Some(batches[index].clone()))).unwrap().unwrap();
        assert_eq!(found.rows, expected.rows);
        assert_near(&found.inputs, &expected.inputs);
        assert_near(&found.targets, &expected.targets);
        assert_near(&[found.energy], &[expected.energy]);
        let (found, expected) = (found.central(), expected.central());
        let flat = |matrix: &Mat<f64>| {
            matrix.col_iter().flat_map(|column| column.iter().copied().collect::<Vec<_>>()).collect::<Vec<f64>>()
        };
        assert_near(&flat(&found.gram), &flat(&expected.gram));
        assert_near(&flat(&found.cross), &flat(&expected.cross));
        let inputs: Vec<&Tensor> = batches.iter().map(|(inputs, _)| inputs).collect();
        assert_near(&column_means_on_device(&inputs).unwrap(), &column_means_on_host(&inputs).unwrap());
    }
}
