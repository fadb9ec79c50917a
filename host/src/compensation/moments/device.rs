//! Second moments as tensor operations, for a GPU: nothing is read before the [`Equations`](super::super::equations) of a
//! layer are complete. Tests run them on the CPU.

use candle_core::{DType, Result, Tensor};

use crate::executor::operation::column_sum::column_sums;

/// As many matrices in f64 of inputs by inputs, and of inputs by targets, are on the device at the same time at most, while
/// moments are added to the equations of a layer: the moments, around their means, weighted and spread, and the equations
/// before and after.
pub(crate) const MATRICES_ON_DEVICE: usize = 8;

/// The sums of [`HostMoments`](super::HostMoments), in f64, of what is left of inputs and targets after the means of the
/// first batch are taken from them: products in f32 of many rows would lose what varies little around a large mean.
pub(in super::super) struct DeviceMoments {
    rows: usize,
    /// In f32, `[inputs]` and `[targets]`.
    taken: [Tensor; 2],
    inputs: Tensor,
    targets: Tensor,
    gram: Tensor,
    cross: Tensor,
    energy: Tensor,
}

/// [`Central`](super::Central) second moments, in f64.
pub(in super::super) struct DeviceCentral {
    pub gram: Tensor,
    pub cross: Tensor,
    /// Of no dimension.
    pub energy: Tensor,
}

impl DeviceMoments {
    /// The moments of all batches, in order; `None` if there are none.
    ///
    /// # Errors
    /// If a batch or the device fails.
    pub fn sum(batches: impl Iterator<Item = Result<Option<(Tensor, Tensor)>>>) -> Result<Option<Self>> {
        let mut sum: Option<Self> = None;
        for batch in batches {
            let Some((inputs, targets)) = batch? else { continue };
            let (inputs, targets) = (inputs.to_dtype(DType::F32)?, targets.to_dtype(DType::F32)?);
            sum = Some(match sum {
                Some(sum) => sum.plus(&Self::of(&inputs, &targets, sum.taken.clone())?)?,
                None => Self::of(&inputs, &targets, [column_mean(&inputs)?, column_mean(&targets)?])?,
            });
        }
        Ok(sum)
    }

    fn of(inputs: &Tensor, targets: &Tensor, taken: [Tensor; 2]) -> Result<Self> {
        let (a, t) = (inputs.broadcast_sub(&taken[0])?, targets.broadcast_sub(&taken[1])?);
        let (transposed, wide_targets) = (a.t()?, t.to_dtype(DType::F64)?);
        Ok(Self {
            rows: a.dim(0)?,
            inputs: column_sums(&a.to_dtype(DType::F64)?)?,
            targets: column_sums(&wide_targets)?,
            gram: transposed.matmul(&a)?.to_dtype(DType::F64)?,
            cross: transposed.matmul(&t)?.to_dtype(DType::F64)?,
            energy: column_sums(&wide_targets.sqr()?)?.sum_all()?,
            taken,
        })
    }

    fn plus(&self, more: &Self) -> Result<Self> {
        Ok(Self {
            rows: self.rows + more.rows,
            taken: self.taken.clone(),
            inputs: (&self.inputs + &more.inputs)?,
            targets: (&self.targets + &more.targets)?,
            gram: (&self.gram + &more.gram)?,
            cross: (&self.cross + &more.cross)?,
            energy: (&self.energy + &more.energy)?,
        })
    }

    /// Around the means, for each row.
    ///
    /// # Errors
    /// If the device fails.
    pub fn central(&self) -> Result<DeviceCentral> {
        let rows = self.rows as f64;
        let (inputs, targets) = ((&self.inputs / rows)?, (&self.targets / rows)?);
        let column = inputs.unsqueeze(1)?;
        let less = |sums: &Tensor, means: &Tensor| (sums / rows)? - column.broadcast_mul(&means.unsqueeze(0)?)?;
        Ok(DeviceCentral {
            gram: less(&self.gram, &inputs)?,
            cross: less(&self.cross, &targets)?,
            energy: ((&self.energy / rows)? - targets.sqr()?.sum_all()?)?,
        })
    }
}

fn column_mean(batch: &Tensor) -> Result<Tensor> {
    (column_sums(&batch.to_dtype(DType::F64)?)? / batch.dim(0)? as f64)?.to_dtype(DType::F32)
}

/// As [`super::column_means`].
pub(super) fn column_means(batches: &[&Tensor]) -> Result<Vec<f64>> {
    let mut rows = 0;
    let mut sums = Vec::with_capacity(batches.len());
    for batch in batches {
        rows += batch.dim(0)?;
        sums.push(column_sums(&batch.to_dtype(DType::F64)?)?);
    }
    // Read once: each reading waits for the device.
    (Tensor::stack(&sums, 0)?.sum(0)? / rows as f64)?.to_vec1()
}
