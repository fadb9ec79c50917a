//! Image embeddings of sub-networks on one or several GPUs, with candle.
//!
//! Images are cut into batches of a fixed size, and each GPU has as many batches in a row as the next. A batch is
//! computed in the same way wherever it runs, so that neither the number of equal GPUs nor their speed changes a bit.
//! All work of several sub-networks is queued before the first embedding is read: no GPU waits for the host in between.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Tensor};
use headroom_shared::KeptStructures;

use super::EmbedError;
use crate::executor::several::{serve_each, share};
use crate::executor::upload::PixelBatch;
use crate::executor::{CandleVit, ExecutorError};

/// Sub-networks that are queued together at most: each has a copy of the heads that it keeps.
pub const IN_FLIGHT: usize = 4;

/// A set of preprocessed images and the model that embeds them.
pub struct GpuEmbedder<'a> {
    parts: Vec<Part<'a>>,
    images: usize,
    embed_dim: usize,
}

/// What one GPU does.
struct Part<'a> {
    model: &'a CandleVit,
    batches: Vec<PixelBatch<'a>>,
}

impl<'a> GpuEmbedder<'a> {
    /// `pixels` holds whole images, `[images, channels, height, width]`, normalised. They go to the GPUs now where there
    /// is room for them, else whenever they are needed.
    ///
    /// # Errors
    /// If the pixels are not whole images, or a device fails.
    pub fn new(models: &'a [CandleVit], pixels: &'a [f32], together: usize) -> Result<Self, ExecutorError> {
        let Some(first) = models.first() else { return Err(ExecutorError::NoDevice) };
        let images = first.images_in(pixels)?;
        let batches: Vec<&[f32]> = pixels.chunks(together.max(1) * (pixels.len() / images)).collect();
        let part = |(number, model): (usize, &'a CandleVit)| {
            let own = &batches[share(batches.len(), models.len(), number)];
            Ok(Part { model, batches: PixelBatch::upload(own, model)? })
        };
        let parts = models.iter().enumerate().map(part).collect::<Result<_, ExecutorError>>()?;
        Ok(Self { parts, images, embed_dim: first.embed_dim() })
    }

    /// The width of an embedding.
    #[must_use]
    pub fn embed_dim(&self) -> usize {
        self.embed_dim
    }

    /// The pooled embeddings of all images with each sub-network, `[images, embed_dim]`.
    ///
    /// # Errors
    /// If the model refuses a sub-network, a GPU fails, or gives what is not finite.
    pub fn embed_all<K: KeptStructures + Sync>(&self, kept: &[K]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let mut all = vec![Vec::with_capacity(self.images * self.embed_dim); kept.len()];
        for (kept, all) in kept.chunks(IN_FLIGHT).zip(all.chunks_mut(IN_FLIGHT)) {
            // A thread for each GPU: what it queues is run in order.
            let run = |_: usize, part: &Part<'_>, failed: &AtomicBool| part.run(kept, failed);
            for part in serve_each(&self.parts, run, || EmbedError::Thread)? {
                all.iter_mut().zip(part).for_each(|(all, part)| all.extend(part));
            }
        }
        let values = all.iter().find_map(|values| values.iter().position(|value| !value.is_finite()));
        match values {
            Some(at) => Err(EmbedError::NotFinite { image: at / self.embed_dim }),
            None => Ok(all),
        }
    }
}

impl Part<'_> {
    /// The embeddings of this part's images with each sub-network.
    fn run<K: KeptStructures>(&self, kept: &[K], failed: &AtomicBool) -> Result<Vec<Vec<f32>>, EmbedError> {
        let cut: Vec<_> = kept.iter().map(|kept| self.model.sub_network(kept)).collect::<Result<_, _>>()?;
        let mut queued: Vec<Vec<Tensor>> = vec![Vec::new(); kept.len()];
        let mut pixels = VecDeque::with_capacity(2);
        for batch in &self.batches {
            if failed.load(Ordering::Relaxed) {
                break;
            }
            let uploaded = batch.uploaded(self.model)?;
            for (cut, queued) in cut.iter().zip(&mut queued) {
                queued.push(cut.forward(&uploaded.tensor)?.pooled.to_dtype(DType::F32).map_err(ExecutorError::from)?);
            }
            // To let go of it waits for its copy, which is done when the next one is on its way.
            pixels.truncate(1);
            pixels.push_front(uploaded);
        }
        let read = |queued: Vec<Tensor>| -> Result<Vec<f32>, EmbedError> {
            if queued.is_empty() {
                return Ok(Vec::new());
            }
            let all = Tensor::cat(&queued, 0).and_then(|all| all.flatten_all()?.to_vec1());
            Ok(all.map_err(ExecutorError::from)?)
        };
        queued.into_iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use headroom_shared::KeptStructures;

    use super::*;
    use crate::executor::testing::{pixels, tiny};

    /// So many heads and neurons of every block.
    struct Kept(usize, usize);

    impl KeptStructures for Kept {
        fn heads(&self, _: usize) -> usize {
            self.0
        }

        fn head(&self, _: usize, index: usize) -> usize {
            index
        }

        fn neurons(&self, _: usize) -> usize {
            self.1
        }
    }

    #[test]
    fn the_number_of_devices_changes_no_bit_and_order_is_kept() {
        let (description, weights) = tiny(5, false);
        let model = || CandleVit::load(&description, &weights, &Device::Cpu, DType::F32).unwrap();
        let models: Vec<CandleVit> = (0..3).map(|_| model()).collect();
        let pixels = pixels(6, 7 * 48);
        let kept: Vec<Kept> = (0..6).map(|neurons| Kept(1 + neurons % 2, 1 + neurons)).collect();
        let found = |models: &[CandleVit], together: usize| {
            GpuEmbedder::new(models, &pixels, together).unwrap().embed_all(&kept).unwrap()
        };
        let one = found(&models[..1], 2);
        assert_eq!(found(&models[..2], 2), one);
        assert_eq!(found(&models, 2), one);
        // More devices than batches.
        assert_eq!(found(&models, 7), found(&models[..1], 7));
        let alone = GpuEmbedder::new(&models[..1], &pixels, 2).unwrap();
        for (kept, expected) in kept.iter().zip(&one) {
            assert_eq!(&alone.embed_all(std::slice::from_ref(kept)).unwrap()[0], expected);
        }
        assert!(one.windows(2).all(|pair| pair[0] != pair[1]), "sub-networks differ");
    }

    #[test]
    fn what_is_not_finite_or_not_there_is_an_error() {
        let (description, weights) = tiny(5, false);
        let models = [CandleVit::load(&description, &weights, &Device::Cpu, DType::F32).unwrap()];
        let mut pixels = pixels(6, 3 * 48);
        pixels[2 * 48] = f32::NAN;
        let embedder = GpuEmbedder::new(&models, &pixels, 2).unwrap();
        assert!(matches!(embedder.embed_all(&[Kept(2, 6)]), Err(EmbedError::NotFinite { image: 2 })));
        assert!(matches!(
            embedder.embed_all(&[Kept(3, 6)]),
            Err(EmbedError::Executor(ExecutorError::Kept { block: 0, .. }))
        ));
        assert!(GpuEmbedder::new(&models, &pixels[1..], 2).is_err());
        assert!(GpuEmbedder::new(&[], &pixels, 2).is_err());
    }
}
