//! Second moments of what the heads of a block compute, over all tokens.

use candle_core::{DType, Result, Tensor};
use faer::{Mat, MatRef};
use rayon::prelude::*;

use crate::executor::batches::each;
use crate::executor::{Branch, CandleVit, ExecutorError, Stream};

/// Sums over tokens of the vectors of one head.
#[derive(Clone, Debug)]
pub(super) struct HeadMoments {
    rows: f64,
    sum: Vec<f64>,
    squares: Mat<f64>,
}

impl HeadMoments {
    fn new(dim: usize) -> Self {
        Self { rows: 0.0, sum: vec![0.0; dim], squares: Mat::zeros(dim, dim) }
    }

    /// Around zero.
    pub(super) fn raw(&self) -> Mat<f64> {
        Mat::from_fn(self.sum.len(), self.sum.len(), |i, j| self.squares[(i, j)] / self.rows)
    }

    /// Around the mean.
    pub(super) fn central(&self) -> Mat<f64> {
        let mean = |i: usize| self.sum[i] / self.rows;
        Mat::from_fn(self.sum.len(), self.sum.len(), |i, j| self.squares[(i, j)] / self.rows - mean(i) * mean(j))
    }

    /// Those of every head over all `batches` `[tokens, heads * head_dim]`, summed in their order.
    fn of_heads(batches: &[Tensor], heads: usize, dim: usize) -> Result<Vec<Self>> {
        let mut moments = vec![Self::new(dim); heads];
        for batch in batches {
            let values: Vec<f32> = batch.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            let (rows, width) = batch.dims2()?;
            let all = MatRef::from_row_major_slice(&values, rows, width);
            moments.par_iter_mut().enumerate().for_each(|(head, moments)| {
                let own = all.subcols(head * dim, dim);
                let product = own.transpose() * own;
                for column in 0..dim {
                    moments.sum[column] += own.col(column).iter().map(|&value| f64::from(value)).sum::<f64>();
                    for row in 0..dim {
                        moments.squares[(row, column)] += f64::from(product[(row, column)]);
                    }
                }
                moments.rows += rows as f64;
            });
        }
        Ok(moments)
    }
}

impl CandleVit {
    /// Of the queries and of the keys of every head.
    pub(super) fn moments_of_queries(
        &self,
        block: usize,
        streams: &[Stream],
    ) -> std::result::Result<Vec<(HeadMoments, HeadMoments)>, ExecutorError> {
        let both: Vec<(Tensor, Tensor)> = each(self.device(), streams, |stream| self.queries_and_keys(block, stream))?;
        let (queries, keys): (Vec<_>, Vec<_>) = both.into_iter().unzip();
        let of = |batches: &[Tensor]| HeadMoments::of_heads(batches, self.heads(), self.head_dim());
        Ok(of(&queries)?.into_iter().zip(of(&keys)?).collect())
    }

    /// Of what every head found. Runs the block.
    pub(super) fn moments_of_values(
        &self,
        block: usize,
        streams: &mut [Stream],
    ) -> std::result::Result<Vec<HeadMoments>, ExecutorError> {
        let found = self.advance(block, Branch::Attention, streams, |inputs| inputs)?;
        self.advance(block, Branch::Mlp, streams, |_| ())?;
        Ok(HeadMoments::of_heads(&found, self.heads(), self.head_dim())?)
    }
}
