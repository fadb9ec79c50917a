//! Second moments as tensor operations, for a GPU: nothing is read before the [`Equations`](super::super::equations) of a
//! layer are complete. Tests run them on the CPU.

use candle_core::{DType, Result, Tensor};

use crate::executor::operation::column_sum::column_sums;

/// The sums of [`HostMoments`](super::HostMoments), in f64.
pub(in super::super) struct DeviceMoments {
    rows: usize,
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
            let found = Self::of(&inputs, &targets)?;
            sum = Some(match sum {
                Some(sum) => sum.plus(&found)?,
                None => found,
            });
        }
        Ok(sum)
    }

    fn of(inputs: &Tensor, targets: &Tensor) -> Result<Self> {
        let (a, t) = (inputs.to_dtype(DType::F32)?, targets.to_dtype(DType::F32)?);
        let transposed = a.t()?;
        Ok(Self {
            rows: a.dim(0)?,
            inputs: column_sums(&a.to_dtype(DType::F64)?)?,
            targets: column_sums(&t.to_dtype(DType::F64)?)?,
            gram: transposed.matmul(&a)?.to_dtype(DType::F64)?,
            cross: transposed.matmul(&t)?.to_dtype(DType::F64)?,
            energy: column_sums(&t.to_dtype(DType::F64)?.sqr()?)?.sum_all()?,
        })
    }

    fn plus(&self, more: &Self) -> Result<Self> {
        Ok(Self {
            rows: self.rows + more.rows,
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
