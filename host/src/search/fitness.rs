//! The paper's fitness: the cosine between PCA projections, pruned against dense.
//!
//! The projection is fitted on the dense model's embeddings of the calibration
//! images. It centres them, so that a direction that all images share does not
//! make every cosine close to 1, and drops directions in which they do not differ.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

use crate::search::eigen::symmetric_eigen;

/// Most components of the projection: those of the published scores.
pub const MAX_COMPONENTS: usize = 192;

/// A direction is dropped when its variance is below this part of the largest:
/// in f32 embeddings what is left there is rounding.
const SMALLEST_VARIANCE: f64 = 1e-12;

/// The dense model's embeddings, projected: what pruned embeddings are compared with.
#[derive(Clone, Debug)]
pub struct PcaFitness {
    mean: Vec<f64>,
    /// dimensions x components
    components: Mat<f64>,
    /// components x images, each column of length one, or zero
    dense: Mat<f64>,
}

/// Why embeddings cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FitnessError {
    /// A projection needs images that differ.
    #[error("{found} calibration images, at least 2 are needed")]
    TooFewImages { found: usize },
    /// The numbers are not `[images, dimensions]`.
    #[error("{found} numbers in the embeddings, expected {expected}")]
    Length { expected: usize, found: usize },
    /// An embedding is NaN or infinite.
    #[error("the embedding of image {image} is not finite")]
    NotFinite { image: usize },
    /// The dense model gives every image the same embedding.
    #[error("the dense model's embeddings of all calibration images are equal")]
    AllEqual,
}

impl PcaFitness {
    /// Fits the projection on `dense`, the embeddings `[images, dimensions]` of
    /// the dense model, with `min(192, dimensions, images - 1)` components or,
    /// where images differ in fewer directions, those.
    ///
    /// # Errors
    /// If there are fewer than two images, the length is not a multiple of
    /// `dimensions`, a number is not finite or all embeddings are equal.
    pub fn fit(dense: &[f32], dimensions: usize) -> Result<Self, FitnessError> {
        let images = dense.len() / dimensions.max(1);
        if images * dimensions != dense.len() {
            return Err(FitnessError::Length { expected: images * dimensions, found: dense.len() });
        }
        if images < 2 {
            return Err(FitnessError::TooFewImages { found: images });
        }
        let mut mean = vec![0.0; dimensions];
        for embedding in dense.chunks_exact(dimensions) {
            mean.iter_mut().zip(embedding).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        mean.iter_mut().for_each(|sum| *sum /= images as f64);
        let centred = centred(dense, &mean)?;
        let points = columns(&centred, dimensions);
        let mut covariance = Mat::<f64>::zeros(dimensions, dimensions);
        matmul(covariance.as_mut(), Accum::Replace, points, points.transpose(), 1.0, Par::Seq);
        // Finite input has a decomposition; what overflows has no use as an embedding.
        let eigen = symmetric_eigen(covariance.as_ref()).ok_or(FitnessError::NotFinite { image: 0 })?;
        let largest = eigen.values.last().copied().unwrap_or(0.0);
        if largest <= 0.0 {
            return Err(FitnessError::AllEqual);
        }
        let most = MAX_COMPONENTS.min(dimensions).min(images - 1);
        let kept = eigen.values.iter().rev().take(most).filter(|value| **value > largest * SMALLEST_VARIANCE).count();
        let components = Mat::from_fn(dimensions, kept, |row, column| eigen.vectors[(row, dimensions - 1 - column)]);
        let mut fitness = Self { mean, components, dense: Mat::zeros(0, 0) };
        fitness.dense = fitness.project(&centred);
        for image in fitness.dense.col_iter_mut() {
            let length = image.norm_l2();
            if length > 0.0 {
                image.iter_mut().for_each(|value| *value /= length);
            }
        }
        Ok(fitness)
    }

    /// The number of components of the projection.
    #[must_use]
    pub fn components(&self) -> usize {
        self.components.ncols()
    }

    /// Mean over images of the cosine between the projections of `embeddings`,
    /// `[images, dimensions]`, and those of the dense model; from -1 to 1. A
    /// projection of length zero has cosine 0.
    ///
    /// # Errors
    /// If there are more or fewer numbers than dense ones, or one is not finite.
    pub fn similarity(&self, embeddings: &[f32]) -> Result<f64, FitnessError> {
        let images = self.dense.ncols();
        let expected = images * self.mean.len();
        if embeddings.len() != expected {
            return Err(FitnessError::Length { expected, found: embeddings.len() });
        }
        let projected = self.project(&centred(embeddings, &self.mean)?);
        let cosine = |(pruned, dense): (faer::ColRef<'_, f64>, faer::ColRef<'_, f64>)| {
            let dot: f64 = pruned.iter().zip(dense.iter()).map(|(a, b)| a * b).sum();
            let length: f64 = pruned.iter().map(|a| a * a).sum::<f64>().sqrt();
            if length > 0.0 { dot / length } else { 0.0 }
        };
        Ok(projected.col_iter().zip(self.dense.col_iter()).map(cosine).sum::<f64>() / images as f64)
    }

    /// components x images
    fn project(&self, centred: &[f64]) -> Mat<f64> {
        let points = columns(centred, self.mean.len());
        let mut projected = Mat::<f64>::zeros(self.components(), points.ncols());
        matmul(projected.as_mut(), Accum::Replace, self.components.transpose(), points, 1.0, Par::Seq);
        projected
    }
}

/// `embeddings` less `mean`, in f64.
fn centred(embeddings: &[f32], mean: &[f64]) -> Result<Vec<f64>, FitnessError> {
    if let Some(at) = embeddings.iter().position(|value| !value.is_finite()) {
        return Err(FitnessError::NotFinite { image: at / mean.len() });
    }
    let less_mean = |embedding: &[f32]| -> Vec<f64> {
        embedding.iter().zip(mean).map(|(value, mean)| f64::from(*value) - mean).collect()
    };
    Ok(embeddings.chunks_exact(mean.len()).flat_map(less_mean).collect())
}

/// Embeddings as the columns of a matrix.
fn columns(embeddings: &[f64], dimensions: usize) -> MatRef<'_, f64> {
    MatRef::from_column_major_slice(embeddings, dimensions, embeddings.len() / dimensions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn embeddings(images: usize, dimensions: usize) -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-1.0f32..1.0, images * dimensions)
    }

    proptest! {
        #[test]
        fn the_dense_model_is_like_itself(dense in embeddings(9, 5)) {
            let fitness = PcaFitness::fit(&dense, 5).expect("images differ");
            prop_assert!((fitness.similarity(&dense).expect("finite") - 1.0).abs() < 1e-9);
        }

        #[test]
        fn with_all_components_it_is_the_plain_cosine_of_centred_embeddings(
            (dense, pruned) in (embeddings(9, 5), embeddings(9, 5)),
        ) {
            let fitness = PcaFitness::fit(&dense, 5).expect("images differ");
            prop_assume!(fitness.components() == 5);
            let rows = |all: &[f32]| -> Vec<Vec<f64>> {
                all.chunks(5).map(|row| row.iter().zip(&fitness.mean).map(|(v, m)| f64::from(*v) - m).collect()).collect()
            };
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let cosine = |a: &[f64], b: &[f64]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
            let expected = rows(&dense).iter().zip(&rows(&pruned)).map(|(a, b)| cosine(a, b)).sum::<f64>() / 9.0;
            prop_assert!((fitness.similarity(&pruned).expect("finite") - expected).abs() < 1e-9);
        }
    }

    #[test]
    fn what_lies_outside_the_components_does_not_count() {
        // Images differ along the first axis only; the pruned model adds an error along the second.
        let fitness = PcaFitness::fit(&[1.0, 7.0, -1.0, 7.0, 3.0, 7.0], 2).expect("images differ");
        assert_eq!(fitness.components(), 1);
        let similarity = fitness.similarity(&[1.5, 9.0, -2.0, 0.0, 2.5, 7.0]).expect("finite");
        // Centred on 1: the first dense image projects to zero, the other two keep their sign.
        assert!((similarity - 2.0 / 3.0).abs() < 1e-12, "{similarity}");
    }

    #[test]
    fn components_are_limited_by_images() {
        let dense: Vec<f32> = (0..3 * 8).map(|at| (at as f32 * 1.7).sin()).collect();
        assert_eq!(PcaFitness::fit(&dense, 8).expect("images differ").components(), 2);
    }

    #[test]
    fn refuses_what_cannot_be_compared() {
        let refused = |dense: &[f32]| PcaFitness::fit(dense, 2).expect_err("refused");
        assert_eq!(refused(&[1.0, 2.0]), FitnessError::TooFewImages { found: 1 });
        assert_eq!(refused(&[1.0, 2.0, 3.0]), FitnessError::Length { expected: 2, found: 3 });
        assert_eq!(refused(&[1.0, 2.0, f32::NAN, 1.0]), FitnessError::NotFinite { image: 1 });
        assert_eq!(refused(&[1.0, 2.0, 1.0, 2.0]), FitnessError::AllEqual);
        let fitness = PcaFitness::fit(&[1.0, 2.0, 3.0, 5.0], 2).expect("images differ");
        assert_eq!(fitness.similarity(&[1.0; 6]), Err(FitnessError::Length { expected: 4, found: 6 }));
        assert_eq!(fitness.similarity(&[1.0, f32::INFINITY, 0.0, 0.0]), Err(FitnessError::NotFinite { image: 0 }));
    }
}
