//! Image embeddings of sub-networks on the CPU, with the engine that the
//! device runs, so that what the host measures is what the device will do.

use std::sync::{Mutex, PoisonError};

use headroom_device::engine::{ElasticVit, EngineError, Workspace};
use headroom_shared::KeptStructures;
use rayon::prelude::*;

/// Images that one thread runs together: enough rows for the matrix kernels,
/// small enough for the cache and for an even division of work.
const IMAGES_PER_RUN: usize = 4;

/// A set of preprocessed images and the model that embeds them.
pub struct CpuEmbedder<'a> {
    vit: &'a ElasticVit,
    pixels: &'a [f32],
    pixels_per_image: usize,
    embed_dim: usize,
    workspaces: Mutex<Vec<Workspace>>,
}

impl<'a> CpuEmbedder<'a> {
    /// `pixels` holds whole images, `[images, 3, height, width]`, normalised.
    #[must_use]
    pub fn new(vit: &'a ElasticVit, pixels: &'a [f32], pixels_per_image: usize, embed_dim: usize) -> Self {
        Self { vit, pixels, pixels_per_image, embed_dim, workspaces: Mutex::new(Vec::new()) }
    }

    /// The number of images.
    #[must_use]
    pub fn images(&self) -> usize {
        self.pixels.len() / self.pixels_per_image
    }

    /// The width of an embedding.
    #[must_use]
    pub fn embed_dim(&self) -> usize {
        self.embed_dim
    }

    /// The pooled embeddings of all images, `[images, embed_dim]`. The result
    /// does not depend on the number of threads.
    ///
    /// # Errors
    /// If the engine refuses the sub-network.
    pub fn embed<K: KeptStructures + Sync>(&self, kept: &K) -> Result<Vec<f32>, EngineError> {
        let mut embeddings = vec![0.0; self.images() * self.embed_dim];
        self.pixels
            .par_chunks(IMAGES_PER_RUN * self.pixels_per_image)
            .zip(embeddings.par_chunks_mut(IMAGES_PER_RUN * self.embed_dim))
            .try_for_each(|(pixels, embeddings)| {
                let mut workspace = self.take_workspace();
                let output = self.vit.embed(&mut workspace, pixels, pixels.len() / self.pixels_per_image, kept);
                let result = output.map(|output| embeddings.copy_from_slice(output.pooled));
                self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).push(workspace);
                result
            })?;
        Ok(embeddings)
    }

    fn take_workspace(&self) -> Workspace {
        let spare = self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| self.vit.workspace(IMAGES_PER_RUN))
    }
}

/// The mean over rows of the cosine of `a` and `b`, both `[rows, width]`:
/// the fidelity of a sub-network, if `b` is dense.
#[must_use]
pub fn mean_cosine(a: &[f32], b: &[f32], width: usize) -> f64 {
    let rows = a.len() / width;
    let sum: f64 = a.chunks_exact(width).zip(b.chunks_exact(width)).map(|(a, b)| cosine(a, b)).sum();
    sum / rows as f64
}

/// The cosine of two vectors.
#[must_use]
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| -> f64 { x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum() };
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    // An embedding of zeros resembles nothing.
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::mean_cosine;

    #[test]
    fn cosine_is_of_directions_and_averaged_over_rows() {
        assert_eq!(mean_cosine(&[1.0, 0.0, 0.0, 2.0], &[3.0, 0.0, 5.0, 0.0], 2), 0.5);
        assert_eq!(mean_cosine(&[0.0, 0.0], &[1.0, 0.0], 2), 0.0);
    }
}
