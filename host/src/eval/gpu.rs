//! Rungs on GPUs, with candle: each GPU has as many images in a row as the next, and runs them in batches of a fixed
//! size while the CPU decodes the ones after them. All rungs of a batch are queued before the first result is read.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

use candle_core::{D, DType, Tensor};
use headroom_device::bundle::Bundle;
use headroom_device::images::Preprocessor;

use super::EvalError;
use super::observation::{Observations, Run, decoded};
use crate::executor::memory::{self, Held, largest_batch};
use crate::executor::operation::widened;
use crate::executor::several::{serve_each, share};
use crate::executor::upload::Uploaded;
use crate::executor::{CandleVit, ChosenDevices, ExecutorError, Forward};
use crate::progress::Progress;

/// Images that a GPU is given together where it has room.
const IMAGES_TOGETHER: usize = 64;

/// Batches that are decoded ahead of a GPU.
const AHEAD: usize = 2;

/// The model of a bundle on GPUs.
pub(super) struct GpuRungs {
    models: Vec<CandleVit>,
    together: usize,
}

/// What a GPU computed for a batch at a rung, still there.
struct Queued {
    pooled: Tensor,
    logits: Option<Tensor>,
    /// `[images]`.
    patch_cosines: Option<Tensor>,
}

impl GpuRungs {
    /// The weights and corrections of the `bundle` at `path`.
    ///
    /// # Errors
    /// If it cannot be read, a GPU fails or has no room.
    pub fn load(path: &Path, bundle: &Bundle, devices: &ChosenDevices) -> Result<Self, EvalError> {
        let read = bundle.read_weights(path);
        let (weights, corrections) = read.map_err(|source| EvalError::Bundle { path: path.to_path_buf(), source })?;
        let description = bundle.description();
        let of_weights: usize = weights.iter().map(|(_, tensor)| tensor.data.len()).sum();
        let parameters = (of_weights + corrections.parameters()) as u64;
        let needed = |images| memory::needed(description, parameters, Held::Embeddings { images, sub_networks: 2 });
        let together = match devices.devices.iter().filter_map(memory::free).min() {
            Some(free) => largest_batch(free, IMAGES_TOGETHER, needed)
                .ok_or_else(|| EvalError::DeviceMemory { needed: memory::with_margin(needed(1)), free })?,
            None => IMAGES_TOGETHER,
        };
        let models = devices.load(description, &weights)?;
        let models = models.iter().map(|model| model.with_corrections(&corrections)).collect::<Result<_, _>>()?;
        Ok(Self { models, together })
    }

    /// What is seen of all images, in order.
    ///
    /// # Errors
    /// As [`super::observation::observe`].
    pub fn observe(
        &self,
        run: &Run<'_, '_>,
        files: &[PathBuf],
        labels: &[usize],
        preprocessor: &Preprocessor,
        progress: &dyn Progress,
        interrupt: &AtomicBool,
    ) -> Result<Vec<Observations>, EvalError> {
        let batches: Vec<_> = files.chunks(self.together).zip(labels.chunks(self.together)).collect();
        let done = AtomicUsize::new(0);
        let serve = |number: usize, model: &CandleVit, failed: &AtomicBool| -> Result<Vec<Observations>, EvalError> {
            let own = &batches[share(batches.len(), self.models.len(), number)];
            let (sender, receiver) = sync_channel(AHEAD);
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    for (files, labels) in own {
                        // A GPU that failed takes no more.
                        if sender.send((decoded(files, labels, preprocessor, progress), files.len())).is_err() {
                            return;
                        }
                    }
                });
                let mut all = Vec::with_capacity(own.len());
                for (images, count) in receiver {
                    if failed.load(Ordering::Relaxed) {
                        break;
                    }
                    if interrupt.load(Ordering::Relaxed) {
                        return Err(EvalError::Interrupted { images: done.load(Ordering::Relaxed) });
                    }
                    let (pixels, labels) = images?;
                    all.push(batch(run, model, &pixels, labels)?);
                    progress.done((done.fetch_add(count, Ordering::Relaxed) + count) as u64);
                }
                Ok(all)
            })
        };
        Ok(serve_each(&self.models, serve, || EvalError::Thread)?.into_iter().flatten().collect())
    }
}

/// What is seen of some images at every rung.
fn batch(run: &Run<'_, '_>, model: &CandleVit, pixels: &[f32], labels: Vec<usize>) -> Result<Observations, EvalError> {
    let mut seen = run.nothing();
    let images = labels.len();
    seen.labels = labels;
    if images == 0 {
        return Ok(seen);
    }
    let pixels = Uploaded::to_device_of(model, pixels)?;
    let dense = run.compared.then(|| model.forward_kept(&pixels.tensor, &run.dense)).transpose()?;
    let prefix = run.bundle.description().prefix_tokens();
    let mut queued = Vec::with_capacity(run.rungs.len());
    for &rung in run.rungs {
        let found = model.forward_kept(&pixels.tensor, &run.bundle.corrected(rung, &run.table[rung]))?;
        let cosines = |dense: &Forward| patch_cosines(&found.tokens, &dense.tokens, prefix);
        let patch_cosines = dense.as_ref().map(cosines).transpose().map_err(ExecutorError::from)?;
        queued.push(Queued { pooled: found.pooled, logits: found.logits, patch_cosines });
    }
    let half = dense.as_ref().is_some_and(|dense| dense.pooled.dtype() != DType::F32);
    let dense = dense.map(|dense| read(&dense.pooled)).transpose()?;
    if dense.iter().flatten().any(|value| !value.is_finite()) {
        // What follows is compared with it. The dense model is the first rung.
        return Err(EvalError::NotFinite { rung: 0, half });
    }
    for ((&rung, queued), seen) in run.rungs.iter().zip(queued).zip(&mut seen.rungs) {
        let half = queued.pooled.dtype() != DType::F32;
        let pooled = read(&queued.pooled)?;
        let logits = queued.logits.as_ref().map(read).transpose()?;
        let patch_cosines = queued.patch_cosines.as_ref().map(read).transpose()?;
        let all = pooled.iter().chain(logits.iter().flatten()).chain(patch_cosines.iter().flatten());
        if !all.into_iter().all(|value| value.is_finite()) {
            return Err(EvalError::NotFinite { rung, half });
        }
        let patch_cosines = patch_cosines.unwrap_or_default().into_iter().map(f64::from).collect();
        seen.add(images, &pooled, logits.as_deref(), dense.as_deref(), patch_cosines);
    }
    Ok(seen)
}

fn read(tensor: &Tensor) -> Result<Vec<f32>, ExecutorError> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// For each image the mean over patch tokens of their cosine, `[images]`; of zeros it is zero.
fn patch_cosines(found: &Tensor, dense: &Tensor, prefix: usize) -> candle_core::Result<Tensor> {
    let patches = |tokens: &Tensor| widened(&tokens.narrow(1, prefix, tokens.dim(1)? - prefix)?.contiguous()?);
    let (a, b) = (patches(found)?, patches(dense)?);
    let dot = |a: &Tensor, b: &Tensor| (a * b)?.sum(D::Minus1);
    let lengths = (dot(&a, &a)?.sqrt()? * dot(&b, &b)?.sqrt()?)?;
    let cosines = (dot(&a, &b)? / &lengths)?;
    // Not `gt(0.0)`, which would make zero of what is NaN.
    lengths.eq(0.0)?.where_cond(&cosines.zeros_like()?, &cosines)?.mean(D::Minus1)
}
