//! Image embeddings of sub-networks: what search, ladder and token schedules judge by.
//!
//! On the CPU the engine that the device runs ([`cpu`]), so that what the host measures is what the device will do; on
//! GPUs candle ([`gpu`]), which computes the same but for rounding.

pub mod cpu;
pub mod gpu;

use headroom_device::engine::{ElasticVit, EngineError};
use headroom_device::model::{Corrections, Description, Weights};
use headroom_shared::KeptStructures;

use crate::executor::{CandleVit, ChosenDevices, ExecutorError};
pub use cpu::CpuEmbedder;
pub use gpu::GpuEmbedder;

/// Why images cannot be embedded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    #[error("the embedding of image {image} is not finite")]
    NotFinite { image: usize },
    /// A thread that served a GPU panicked.
    #[error("a thread that served a GPU ended early")]
    Thread,
}

/// A model where sub-networks are judged.
pub enum JudgedModel {
    Cpu(Box<ElasticVit>),
    /// The same model on every GPU.
    Gpus(Vec<CandleVit>),
}

impl JudgedModel {
    /// Puts the model where `devices` says, on GPUs in their type of numbers.
    ///
    /// # Errors
    /// If the weights are not those of the description, or a device fails.
    pub fn load(devices: &ChosenDevices, description: &Description, weights: &Weights) -> Result<Self, EmbedError> {
        if devices.gpus.is_empty() {
            return Ok(Self::Cpu(Box::new(ElasticVit::new(description, weights)?)));
        }
        Ok(Self::Gpus(devices.load(description, weights)?))
    }

    /// The same model with other corrections.
    ///
    /// # Errors
    /// If they are of another model, or a device fails.
    pub fn with_corrections(self, corrections: &Corrections) -> Result<Self, EmbedError> {
        Ok(match self {
            Self::Cpu(vit) => Self::Cpu(Box::new(vit.with_corrections(corrections)?)),
            Self::Gpus(models) => {
                Self::Gpus(models.iter().map(|model| model.with_corrections(corrections)).collect::<Result<_, _>>()?)
            }
        })
    }

    /// What embeds the images that `pixels` are, `[images, channels, height, width]`, normalised; on a GPU so many
    /// together.
    ///
    /// # Errors
    /// If the pixels are not whole images, or a device fails.
    pub fn embedder<'a>(&'a self, images: JudgedImages<'a>) -> Result<ImageEmbedder<'a>, EmbedError> {
        let JudgedImages { pixels, pixels_per_image, embed_dim, together } = images;
        Ok(match self {
            Self::Cpu(vit) => ImageEmbedder::Cpu(CpuEmbedder::new(vit, pixels, pixels_per_image, embed_dim)),
            Self::Gpus(models) => ImageEmbedder::Gpu(GpuEmbedder::new(models, pixels, together)?),
        })
    }
}

/// The images that sub-networks are judged by.
#[derive(Clone, Copy, Debug)]
pub struct JudgedImages<'a> {
    pub pixels: &'a [f32],
    pub pixels_per_image: usize,
    pub embed_dim: usize,
    /// Images that go through the model together on a GPU.
    pub together: usize,
}

/// Embeds some images with the sub-networks of a model.
pub enum ImageEmbedder<'a> {
    Cpu(CpuEmbedder<'a>),
    Gpu(GpuEmbedder<'a>),
}

impl ImageEmbedder<'_> {
    /// The width of an embedding.
    #[must_use]
    pub fn embed_dim(&self) -> usize {
        match self {
            Self::Cpu(embedder) => embedder.embed_dim(),
            Self::Gpu(embedder) => embedder.embed_dim(),
        }
    }

    /// Sub-networks that are best given together: a GPU has the next ones queued while it runs the first.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        match self {
            Self::Cpu(_) => 1,
            Self::Gpu(_) => gpu::IN_FLIGHT,
        }
    }

    /// The pooled embeddings of all images, `[images, embed_dim]`.
    ///
    /// # Errors
    /// If the model refuses the sub-network, a device fails, or a GPU gives what is not finite.
    pub fn embed<K: KeptStructures + Sync>(&self, kept: &K) -> Result<Vec<f32>, EmbedError> {
        match self {
            Self::Cpu(embedder) => Ok(embedder.embed(kept)?),
            Self::Gpu(embedder) => Ok(embedder.embed_all(std::slice::from_ref(kept))?.swap_remove(0)),
        }
    }

    /// As [`Self::embed`], of several sub-networks in order.
    ///
    /// # Errors
    /// As [`Self::embed`].
    pub fn embed_all<K: KeptStructures + Sync>(&self, kept: &[K]) -> Result<Vec<Vec<f32>>, EmbedError> {
        match self {
            Self::Cpu(embedder) => Ok(kept.iter().map(|kept| embedder.embed(kept)).collect::<Result<_, _>>()?),
            Self::Gpu(embedder) => embedder.embed_all(kept),
        }
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
