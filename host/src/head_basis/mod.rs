//! Another basis inside each head, in which the first dimensions carry the most:
//! what makes single dimensions worth ranking.
//!
//! **Values.** A head's output is `P c`, with its columns `P` of the projection
//! and the weighted sums `c` of its values. For any invertible `R`, values `R v`
//! and columns `P R^-1` compute the same. With the second moments `C = E c c^T`
//! over calibration tokens and the singular value decomposition `P C^1/2 = U S
//! W^T`, the basis `R = W^T C^-1/2` makes the dimensions of `c` uncorrelated and
//! their columns orthogonal, so that what is lost with the last `k` dimensions,
//! in the mean square of the head's output, is the least that any `k` can lose
//! (Eckart and Young 1936, doi 10.1007/BF02288367).
//!
//! **Queries and keys.** Scores are `q^T k`; queries `R q` and keys `R^-T k` give
//! the same. With `A = E q q^T`, the covariance `B` of the keys (what all keys
//! have in common moves all scores alike, which the softmax does not see) and
//! `A^1/2 B^1/2 = U S W^T`, the basis `R = S^1/2 U^T A^-1/2` keeps the most of the
//! scores in the first dimensions, in the same sense. Rotary positions turn pairs
//! of dimensions, which no other basis allows: such models keep theirs.
//!
//! Both sides of a dimension are scaled to equal norms, so that half precision
//! holds them. Biases follow their rows.
//!
//! Limits: the new weights are rounded to the precision in which the checkpoint
//! stores them, so the dense model is the same function but for rounding.

mod error;
mod moments;
mod rotation;

use std::sync::atomic::{AtomicBool, Ordering};

use faer::Mat;
use headroom_device::model::Description;
use headroom_device::model::description::{Block, Linear, Position, TensorRef};
use headroom_device::model::safetensors::{narrow, widen};
use headroom_device::model::weights::{Tensor, Weights, WeightsError};
use rayon::prelude::*;
use safetensors::Dtype;

use crate::executor::CandleVit;
use crate::importance::Importance;
use rotation::Rotation;

pub use error::HeadBasisError;

/// Tokens that one product holds together.
pub const TOKENS_TOGETHER: usize = 1024;

/// The tensors of a model that the new basis changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeadBasis {
    changed: Weights,
    queries: bool,
}

impl HeadBasis {
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
    ) -> Result<Self, HeadBasisError> {
        let queries = !matches!(description.embedding.position, Position::Rotary { .. });
        let mut basis = Self { queries, ..Self::default() };
        let mut streams = model.streams(pixels, TOKENS_TOGETHER)?;
        for (index, block) in description.blocks.iter().enumerate() {
            if interrupt.load(Ordering::Relaxed) {
                return Err(HeadBasisError::Interrupted { blocks: index });
            }
            let of = |turned: Option<Rotation>, head| turned.ok_or(HeadBasisError::NotFinite { block: index, head });
            if queries {
                let mut heads = Vec::with_capacity(description.heads);
                for (head, (queries, keys)) in model.moments_of_queries(index, &streams)?.into_iter().enumerate() {
                    let first = basis.rows(weights, &block.query.weight, description, head)?;
                    heads.push((queries, keys, first, basis.rows(weights, &block.key.weight, description, head)?));
                }
                let rotations = heads.into_par_iter().map(|(queries, keys, first, second)| {
                    let rotation = Rotation::of_queries(&queries.raw(), &keys.central());
                    rotation.map(|found| found.balanced(&first, &second))
                });
                for (head, rotation) in rotations.collect::<Vec<_>>().into_iter().enumerate() {
                    basis.turn_queries(weights, block, description, head, &of(rotation, head)?)?;
                }
            }
            let mut heads = Vec::with_capacity(description.heads);
            for (head, context) in model.moments_of_values(index, &mut streams)?.into_iter().enumerate() {
                let columns = basis.columns(weights, &block.projection, description, head)?;
                heads.push((context, columns, basis.rows(weights, &block.value.weight, description, head)?));
            }
            let rotations = heads.into_par_iter().map(|(context, columns, rows)| {
                let rotation = Rotation::of_values(&context.raw(), &columns);
                rotation.map(|found| found.balanced(&rows, &columns.transpose().to_owned()))
            });
            for (head, rotation) in rotations.collect::<Vec<_>>().into_iter().enumerate() {
                basis.turn_values(weights, block, description, head, &of(rotation, head)?)?;
            }
            progress(index + 1);
        }
        basis.round(dtype)?;
        Ok(basis)
    }

    /// The tensors that are different now; everything else is as it was.
    #[must_use]
    pub fn changed(&self) -> &Weights {
        &self.changed
    }

    /// [`Self::changed`], without a copy.
    #[must_use]
    pub fn into_changed(self) -> Weights {
        self.changed
    }

    /// Whether queries and keys have another basis too.
    #[must_use]
    pub fn has_queries(&self) -> bool {
        self.queries
    }

    /// Puts the weights into this basis.
    pub fn apply(&self, weights: &mut Weights) {
        for (name, tensor) in self.changed.iter() {
            weights.insert(name, tensor.clone());
        }
    }

    /// Puts the dimensions of every head into the order of falling importance, scores and tensors alike; equal scores
    /// keep their order.
    ///
    /// # Errors
    /// If the basis is of another model.
    pub fn sort(&mut self, description: &Description, importance: &mut Importance) -> Result<(), HeadBasisError> {
        let none = Weights::default();
        let width = description.head_dim;
        for (block, scores) in description.blocks.iter().zip(&mut importance.value_dims) {
            for (head, scores) in scores.chunks_exact_mut(width).enumerate() {
                self.turn_values(&none, block, description, head, &sorted(scores))?;
            }
        }
        if !self.queries {
            return Ok(());
        }
        for (block, scores) in description.blocks.iter().zip(&mut importance.query_dims) {
            for (head, scores) in scores.chunks_exact_mut(width).enumerate() {
                self.turn_queries(&none, block, description, head, &sorted(scores))?;
            }
        }
        Ok(())
    }

    fn turn_queries(
        &mut self,
        weights: &Weights,
        block: &Block,
        description: &Description,
        head: usize,
        rotation: &Rotation,
    ) -> Result<(), HeadBasisError> {
        self.turn_rows(weights, &block.query, description, head, &rotation.forward)?;
        self.turn_rows(weights, &block.key, description, head, &rotation.inverse.transpose().to_owned())
    }

    fn turn_values(
        &mut self,
        weights: &Weights,
        block: &Block,
        description: &Description,
        head: usize,
        rotation: &Rotation,
    ) -> Result<(), HeadBasisError> {
        self.turn_rows(weights, &block.value, description, head, &rotation.forward)?;
        let columns = self.columns(weights, &block.projection, description, head)? * &rotation.inverse;
        let (dim, width) = (description.head_dim, description.heads * description.head_dim);
        let data = &mut self.tensor(weights, &block.projection.weight)?.data;
        for (row, values) in data.chunks_exact_mut(width).enumerate() {
            let own = &mut values[head * dim..(head + 1) * dim];
            own.iter_mut().enumerate().for_each(|(column, value)| *value = columns[(row, column)] as f32);
        }
        Ok(())
    }

    /// Multiplies the rows of a head, and their biases, by `matrix` from the left.
    fn turn_rows(
        &mut self,
        weights: &Weights,
        linear: &Linear,
        description: &Description,
        head: usize,
        matrix: &Mat<f64>,
    ) -> Result<(), HeadBasisError> {
        let dim = description.head_dim;
        let weight = (&linear.weight, description.embed_dim);
        for (named, width) in std::iter::once(weight).chain(linear.bias.iter().map(|bias| (bias, 1))) {
            let first = named.rows.map_or(0, |(first, _)| first) + head * dim;
            let rows = &mut self.tensor(weights, named)?.data[first * width..(first + dim) * width];
            let new = matrix * Mat::from_fn(dim, width, |row, column| f64::from(rows[row * width + column]));
            rows.iter_mut().enumerate().for_each(|(at, value)| *value = new[(at / width, at % width)] as f32);
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
    ) -> Result<Mat<f64>, HeadBasisError> {
        let (dim, height) = (description.head_dim, description.embed_dim);
        self.part(weights, &projection.weight, description.heads * dim, (0, head * dim), (height, dim))
    }

    /// The rows of a head, `[head_dim, embed_dim]`.
    fn rows(
        &mut self,
        weights: &Weights,
        named: &TensorRef,
        description: &Description,
        head: usize,
    ) -> Result<Mat<f64>, HeadBasisError> {
        let (dim, width) = (description.head_dim, description.embed_dim);
        self.part(weights, named, width, (head * dim, 0), (dim, width))
    }

    /// A part of a matrix of that width, from a row and a column, of so many of both.
    fn part(
        &mut self,
        weights: &Weights,
        named: &TensorRef,
        width: usize,
        (row, column): (usize, usize),
        (rows, columns): (usize, usize),
    ) -> Result<Mat<f64>, HeadBasisError> {
        let first = (named.rows.map_or(0, |(first, _)| first) + row) * width + column;
        let data = &self.tensor(weights, named)?.data;
        Ok(Mat::from_fn(rows, columns, |row, column| f64::from(data[first + row * width + column])))
    }

    /// The tensor as it is now.
    fn tensor(&mut self, weights: &Weights, named: &TensorRef) -> Result<&mut Tensor, HeadBasisError> {
        let missing = || WeightsError::Missing { name: named.name.clone() };
        if self.changed.get(&named.name).is_none() {
            self.changed.insert(named.name.clone(), weights.get(&named.name).ok_or_else(missing)?.clone());
        }
        Ok(self.changed.get_mut(&named.name).ok_or_else(missing)?)
    }

    fn round(&mut self, dtype: Dtype) -> Result<(), HeadBasisError> {
        let names: Vec<String> = self.changed.iter().map(|(name, _)| name.to_owned()).collect();
        for name in names {
            if let Some(tensor) = self.changed.get_mut(&name) {
                let rounded = widen(dtype, &narrow(dtype, &tensor.data));
                let finite = rounded.filter(|data| data.iter().all(|value| value.is_finite()));
                tensor.data = finite.ok_or(HeadBasisError::Range { name, dtype })?;
            }
        }
        Ok(())
    }
}

/// Sorts the scores, and tells how.
fn sorted(scores: &mut [f64]) -> Rotation {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let old = scores.to_vec();
    scores.iter_mut().zip(&order).for_each(|(score, &from)| *score = old[from]);
    Rotation::order(&order)
}

#[cfg(test)]
mod tests;
