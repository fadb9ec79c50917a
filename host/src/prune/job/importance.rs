//! The importance of every structure.

use std::convert::Infallible;
use std::num::NonZeroUsize;

use candle_core::{DType, Device};
use headroom_device::bundle::manifest::sha256_hex;
use headroom_device::model::Weights;

use super::super::images::JobImages;
use super::super::{Method, Options, PruneError, importance_file};
use super::memory::Remedy;
use super::{Job, Passes};
use crate::baseline;
use crate::executor::memory::Held;
use crate::executor::{CandleVit, ExecutorError};
use crate::importance::{self, FisherForm, Importance};
use crate::sensitivity;

/// Random directions of the embedding for each image. They add little to what more images tell, and cost a pass each.
const PROBES: usize = 4;

impl Job<'_> {
    /// The importance of every structure: from `--scores`, or from an interrupted job where it fits, or else computed.
    pub(super) fn importance(&mut self, weights: &Weights, images: &JobImages) -> Result<Importance, PruneError> {
        if let Some(scores) = &self.scores {
            let made_for = scores.model_type.as_deref().unwrap_or("an unnamed model");
            self.progress.note(&format!("importance: the published scores for {made_for}"));
            return Ok(scores.for_model(&self.checkpoint.description)?.clone());
        }
        let fingerprint = self.importance_fingerprint(weights, images);
        let file = self.kept_state.importance();
        let blocks = self.checkpoint.description.blocks.len();
        if let Some(importance) = importance_file::load(&file, blocks, &fingerprint) {
            self.progress.note("importance: taken from the interrupted job");
            return Ok(importance);
        }
        let count = images.calibration_count() as u64;
        let (per_image, what) = match self.options.method() {
            Method::Headroom => {
                (Passes { forward: 1, backward: PROBES as u64 }, format!("fidelity along the masks of {count} images"))
            }
            Method::Snapvit | Method::SnipMagnitude => {
                let views = images.views_per_image() as u64;
                (Passes { forward: views, backward: views }, format!("self-supervised gradients of {count} images"))
            }
            Method::Magnitude | Method::Lamp => (Passes::default(), "the weights alone".to_owned()),
            Method::Random => (Passes::default(), "chance alone".to_owned()),
        };
        let passes = Passes { forward: count * per_image.forward, backward: count * per_image.backward };
        let importance = self.stage(
            "importance",
            |_| passes,
            |job| {
                let images_together = match job.options.method() {
                    Method::Headroom => job.images_together()?,
                    Method::Snapvit | Method::SnipMagnitude => {
                        let images = images.views_per_image();
                        // The views of one image, whatever --batch says.
                        job.check_memory("importance", Held::WeightGradients { images }, Remedy::ImageSize)?;
                        None
                    }
                    Method::Magnitude | Method::Lamp | Method::Random => None,
                };
                job.progress.begin("importance", count, "images");
                let description = &job.checkpoint.description;
                let fisher = job.options.fisher.unwrap_or(FisherForm::Accumulated);
                let models = || job.devices.load(description, weights);
                let weighed = || CandleVit::load(description, weights, &Device::Cpu, DType::F32);
                let importance = match job.options.method() {
                    Method::Headroom => job.sensitivity(&models()?, images, images_together)?,
                    Method::Snapvit => job.gradients(&models()?, images, fisher)?,
                    Method::SnipMagnitude => job.gradients(&models()?, images, FisherForm::Saliency)?,
                    Method::Magnitude => baseline::magnitude(&weighed()?).map_err(ExecutorError::from)?,
                    Method::Lamp => baseline::lamp(&weighed()?).map_err(ExecutorError::from)?,
                    Method::Random => baseline::random(&weighed()?, job.options.seed),
                };
                job.progress.end(&what);
                Ok(importance)
            },
        )?;
        self.kept_state.create()?;
        importance_file::save(&file, &importance, &fingerprint)
            .map_err(|source| PruneError::State { folder: self.kept_state.folder.clone(), source })?;
        Ok(importance)
    }

    fn sensitivity(
        &self,
        models: &[CandleVit],
        images: &JobImages,
        images_together: Option<usize>,
    ) -> Result<Importance, PruneError> {
        let Options { seed, .. } = *self.options;
        let options = sensitivity::Options { probes: PROBES, seed, images_together, interrupt: self.interrupt };
        Ok(sensitivity::estimate(models, images.calibration(), options, &|done| self.progress.done(done as u64))?)
    }

    fn gradients(&self, models: &[CandleVit], images: &JobImages, form: FisherForm) -> Result<Importance, PruneError> {
        let on_cpu = models.iter().all(|model| model.device().is_cpu());
        let workers = if on_cpu { std::thread::available_parallelism().ok() } else { NonZeroUsize::new(models.len()) };
        let options =
            importance::Options { form, workers: workers.unwrap_or(NonZeroUsize::MIN), interrupt: self.interrupt };
        let views = images.views()?.map(Ok::<_, Infallible>);
        Ok(importance::estimate(models, views, options, &|done| self.progress.done(done as u64))?)
    }

    /// Everything that importance depends on.
    fn importance_fingerprint(&self, weights: &Weights, images: &JobImages) -> String {
        let Options { fisher, seed, .. } = self.options;
        let mut text = format!("{:?} {fisher:?} {seed} {:?}", self.options.method(), self.checkpoint.description);
        if self.devices.dtype() != DType::F32 {
            text.push_str(self.devices.dtype().as_str());
        }
        for (name, tensor) in weights.iter() {
            text.push_str(name);
            text.push_str(&sha256_hex(&little_endian(&tensor.data)));
        }
        text.push_str(&sha256_hex(&little_endian(images.calibration())));
        sha256_hex(text.as_bytes())
    }
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
