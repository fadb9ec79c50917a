//! Image embeddings of sub-networks on the CPU, with the engine that the
//! device runs, so that what the host measures is what the device will do.

use std::sync::Mutex;

use headroom_device::engine::{ElasticVit, EngineError, Workspace};
use headroom_device::lock::lock;
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
                lock(&self.workspaces).push(workspace);
                result
            })?;
        Ok(embeddings)
    }

    fn take_workspace(&self) -> Workspace {
        let spare = lock(&self.workspaces).pop();
        spare.unwrap_or_else(|| self.vit.workspace(IMAGES_PER_RUN))
    }
}
