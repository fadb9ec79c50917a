//! What removing a structure costs in fidelity, for heads and neurons of all
//! blocks in one unit.
//!
//! Let every structure be multiplied by a mask that is one, `z` the image
//! embedding, `u = z / |z|`, and `J_j` the slope of `z` along mask `j`. To
//! second order, masks that move by `d` leave a cosine to the dense embedding of
//!
//! ```text
//! 1 - cos = 1/2 |P J d|^2 / |z|^2,    P = I - u u^T
//! ```
//!
//! so that removing `j` alone costs `1/2 |P J_j|^2 / |z|^2`. The slopes along
//! all masks come from a few backward passes instead of one for each structure:
//! with a random probe `v` of independent normal numbers,
//! `E (v^T P J_j)^2 = |P J_j|^2`, and `v^T P J_j` for all `j` is one backward
//! pass from `P v` at the embedding (Hutchinson's estimator,
//! doi 10.1080/03610919008812866). This is the diagonal of the Gauss-Newton
//! matrix of the fidelity over the masks, averaged over images.
//!
//! Unlike the self-supervised Fisher term of [`crate::importance`] it needs no
//! loss, no crops and no search for factors between blocks: its unit is the
//! expected loss of fidelity, the same for a head of the first block and a
//! neuron of the last. What it does not see is how removals add up: a structure
//! that another could stand in for looks as important as one that nothing
//! replaces.
//!
//! Limits: the embedding's slope at the dense model; a removal is no small step.

mod error;
mod on_device;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use crate::executor::operation::on_fused_device;
use crate::executor::several::{serve_each, share};
use crate::executor::upload::Uploaded;
use crate::executor::{CandleVit, ExecutorError, Traced};
use crate::importance::Importance;

pub use error::SensitivityError;

/// Tokens that one forward pass holds together: enough rows for the matrix kernels, few enough for memory.
const TOKENS_TOGETHER: usize = 512;

/// How [`estimate`] runs.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Backward passes for each image. The images vary more than the probes: a few are enough.
    pub probes: usize,
    /// Of the probes.
    pub seed: u64,
    /// Images that go through the model together [default: as many as suit a CPU]. It changes rounding alone.
    pub images_together: Option<usize>,
    /// Set it, from anywhere, to stop.
    pub interrupt: &'a AtomicBool,
}

/// The expected loss of fidelity of a model that is on one device, or the same on several: mean over `pixels` `[images, 3, height, width]` (normalised), of removing each
/// structure alone.
///
/// The result does not depend on the number of threads. `progress` is called with the number of images done.
///
/// # Errors
/// If there is no image or no probe, the pixels are not whole images, the model fails, a slope is not finite, or
/// `options.interrupt` is set.
pub fn estimate(
    models: &[CandleVit],
    pixels: &[f32],
    options: Options<'_>,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Importance, SensitivityError> {
    if options.probes == 0 {
        return Err(SensitivityError::NoProbes);
    }
    let no_device = || SensitivityError::Executor { image: 0, source: ExecutorError::NoDevice };
    let model = models.first().ok_or_else(no_device)?;
    let all_images = model.images_in(pixels)?;
    let pixels_per_image = pixels.len() / all_images;
    let together = options.images_together.unwrap_or(TOKENS_TOGETHER / model.tokens()).max(1);
    let done = AtomicUsize::new(0);
    let run = |model: &CandleVit, (index, pixels): (usize, &[f32])| {
        if options.interrupt.load(Ordering::Relaxed) {
            return Err(SensitivityError::Interrupted { images: done.load(Ordering::Relaxed) });
        }
        let images = pixels.len() / pixels_per_image;
        let first = index * together;
        let squares = Uploaded::to_device_of(model, pixels)
            .and_then(|batch| squares(model, &batch.tensor, first, options))
            .map_err(|source| SensitivityError::Executor { image: first, source })?;
        if !squares.is_finite() {
            return Err(SensitivityError::NotFinite { image: first });
        }
        progress(done.fetch_add(images, Ordering::Relaxed) + images);
        Ok(squares)
    };
    let batches: Vec<_> = pixels.chunks(together * pixels_per_image).enumerate().collect();
    // Threads share a CPU; a GPU is served by one, and has as many batches in a row as the next.
    let sums: Vec<Squares> = if models.len() == 1 && model.device().is_cpu() {
        batches.into_par_iter().map(|batch| run(model, batch)).collect::<Result<_, _>>()?
    } else {
        let serve = |number: usize, model: &CandleVit, failed: &AtomicBool| -> Result<Vec<Squares>, SensitivityError> {
            let own = &batches[share(batches.len(), models.len(), number)];
            own.iter().take_while(|_| !failed.load(Ordering::Relaxed)).map(|&batch| run(model, batch)).collect()
        };
        serve_each(models, serve, || SensitivityError::Thread)?.into_iter().flatten().collect()
    };
    let mut total = Squares::zeros(model);
    sums.iter().for_each(|sum| total.add(sum));
    Ok(total.importance((all_images * options.probes) as f64))
}

/// Sums of squared slopes, by block and structure.
struct Squares {
    heads: Vec<Vec<f64>>,
    neurons: Vec<Vec<f64>>,
    value_dims: Vec<Vec<f64>>,
    query_dims: Vec<Vec<f64>>,
}

impl Squares {
    fn zeros(model: &CandleVit) -> Self {
        let zeros = |structures: usize| vec![vec![0.0; structures]; model.depth()];
        let dims = zeros(model.heads() * model.head_dim());
        Self {
            heads: zeros(model.heads()),
            neurons: zeros(model.neurons()),
            value_dims: dims.clone(),
            query_dims: dims,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Vec<f64>> {
        self.heads.iter().chain(&self.neurons).chain(&self.value_dims).chain(&self.query_dims)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Vec<f64>> {
        let Self { heads, neurons, value_dims, query_dims } = self;
        heads.iter_mut().chain(neurons).chain(value_dims).chain(query_dims)
    }

    fn is_finite(&self) -> bool {
        self.all().flatten().all(|square| square.is_finite())
    }

    fn add(&mut self, other: &Self) {
        for (total, other) in self.all_mut().flatten().zip(other.all().flatten()) {
            *total += other;
        }
    }

    /// Half the mean of `count` squares.
    fn importance(mut self, count: f64) -> Importance {
        self.all_mut().flatten().for_each(|square| *square /= 2.0 * count);
        let Self { heads, neurons, value_dims, query_dims } = self;
        Importance { heads, neurons, value_dims, query_dims }
    }
}

/// The squared slopes of all masks, summed over the images of `batch` and their probes. `first` numbers the images, so
/// that the probes of an image do not depend on the batch that it is in.
fn squares(model: &CandleVit, batch: &Tensor, first: usize, options: Options<'_>) -> Result<Squares, ExecutorError> {
    let traced = model.traced(batch)?;
    if !on_fused_device(&[&traced.pooled()]) {
        return on_device::squares(model, &traced, first, options);
    }
    let embeddings = traced.pooled().to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let mut squares = Squares::zeros(model);
    for probe in 0..options.probes {
        let number = |image: usize| ((first + image) * options.probes + probe) as u64;
        let directions: Vec<f32> = embeddings
            .iter()
            .enumerate()
            .flat_map(|(image, embedding)| direction(embedding, options.seed, number(image)))
            .collect();
        add_squares(model, &traced, directions, &mut squares)?;
    }
    Ok(squares)
}

/// One backward pass from `directions` `[images, embed_dim]`.
fn add_squares(
    model: &CandleVit,
    traced: &Traced<'_>,
    directions: Vec<f32>,
    squares: &mut Squares,
) -> Result<(), ExecutorError> {
    let pooled = traced.pooled();
    let directions = Tensor::from_vec(directions, pooled.shape(), &Device::Cpu)?;
    let directions = directions.to_dtype(pooled.dtype())?.to_device(model.device())?;
    traced.backward(&directions, |block, gradient| {
        let masks = gradient.masks()?;
        let Squares { heads, neurons, value_dims, query_dims } = &mut *squares;
        let pairs = [
            (masks.heads, heads),
            (masks.neurons, neurons),
            (masks.value_dims, value_dims),
            (masks.query_dims, query_dims),
        ];
        for (slopes, squares) in pairs {
            let squares = &mut squares[block];
            for image in slopes.to_dtype(DType::F32)?.to_vec2::<f32>()? {
                squares.iter_mut().zip(image).for_each(|(square, slope)| *square += f64::from(slope).powi(2));
            }
        }
        Ok(())
    })
}

/// The probe of that number, `v`.
fn probe(width: usize, seed: u64, number: u64) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(number);
    (0..width).map(|_| StandardNormal.sample(&mut random)).collect()
}

/// `P v / |z|` for the probe of that number.
fn direction(embedding: &[f32], seed: u64, number: u64) -> Vec<f32> {
    let norm = embedding.iter().map(|&z| f64::from(z).powi(2)).sum::<f64>().sqrt();
    let probe = probe(embedding.len(), seed, number);
    let along = embedding.iter().zip(&probe).map(|(&z, v)| f64::from(z) / norm * v).sum::<f64>();
    let across = |(&z, v): (&f32, &f64)| ((v - f64::from(z) / norm * along) / norm) as f32;
    embedding.iter().zip(&probe).map(across).collect()
}

#[cfg(test)]
mod tests;
