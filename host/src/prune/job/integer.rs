//! The model in eight-bit integers, and the rungs measured with it.

use headroom_device::engine::{Corrected, ElasticVit};
use headroom_device::integer::{IntegerSource, frames};
use headroom_device::model::{Corrections, Weights};
use headroom_device::run::Precision;
use headroom_shared::IntegerModel;
use headroom_shared::integer_model::{BlockCounts, IntegerModelParts};

use super::super::PruneError;
use super::super::images::JobImages;
use super::super::measure::Measured;
use super::ladder::MeasuredLadder;
use super::{Job, Passes, Ranked};
use crate::embedder::{CpuEmbedder, JudgedModel, mean_cosine};
use crate::quantisation::IntegerEmbedder;

impl Job<'_> {
    /// In what the device is to compute.
    pub(super) fn precision(&self) -> Precision {
        let default = if self.board.profile.microcontroller.is_some() { Precision::Int8 } else { Precision::F32 };
        self.options.precision.unwrap_or(default)
    }

    /// The whole model in integers. Its name for the weights' file is not known yet.
    pub(super) fn integer_parts(
        &self,
        weights: &Weights,
        corrections: &Corrections,
    ) -> Result<IntegerModelParts, PruneError> {
        let all = IntegerSource::all_counts(&self.checkpoint.description);
        self.integer_prefix(weights, corrections, &all, true)
    }

    /// As much of the model in integers.
    pub(super) fn integer_prefix(
        &self,
        weights: &Weights,
        corrections: &Corrections,
        counts: &[BlockCounts],
        original_ends: bool,
    ) -> Result<IntegerModelParts, PruneError> {
        let (description, weights_sha256) = (&self.checkpoint.description, [0; 32]);
        let source = IntegerSource { description, weights, weights_sha256, corrections, counts, original_ends };
        Ok(source.convert()?)
    }

    /// Measures every rung in integers: against the dense model in f32, which becomes its fidelity, and against the
    /// same rung in f32.
    pub(super) fn integer_ladder(
        &mut self,
        ladder: MeasuredLadder,
        permuted: &Weights,
        parts: &IntegerModelParts,
        corrections: &Corrections,
        ranked: &Ranked,
        images: &JobImages,
    ) -> Result<Vec<Measured>, PruneError> {
        let MeasuredLadder { model, dense, mut measured } = ladder;
        let description = &self.checkpoint.description;
        // Integers run on the CPU, and so does what they are compared with.
        let vit = match model {
            JudgedModel::Cpu(vit) => *vit,
            JudgedModel::Gpus(_) => ElasticVit::new(description, permuted)?,
        };
        let vit = vit.with_corrections(corrections)?;
        let (pixels_per_image, width) = (images.pixels_per_image(), description.embed_dim);
        let rungs = measured.len();
        // Each rung in f32 too.
        let passes = (2 * rungs * images.fidelity_count()) as u64;
        self.stage(
            "integer ladder",
            |_| Passes::forward(passes),
            |job| {
                let file = parts.write()?;
                let model = IntegerModel::read(&file)?;
                let frames = frames(images.fidelity(), &job.checkpoint.description.image);
                let in_integers = IntegerEmbedder::new(model, &frames);
                let in_f32 = CpuEmbedder::new(&vit, images.fidelity(), pixels_per_image, width);
                job.progress.begin("integer ladder", rungs as u64, "rungs");
                for (rung, (measured, kept)) in measured.iter_mut().zip(&ranked.sub_networks).enumerate() {
                    let kept = Corrected { kept, correction: model.correction_of_rung(rung) };
                    let (found, same) = (in_integers.embed(&kept)?, in_f32.embed(&kept)?);
                    let fidelity = |other: &[f32]| mean_cosine(&found, other, width).clamp(-1.0, 1.0) as f32;
                    measured.in_integers(fidelity(&dense), fidelity(&same));
                    job.progress.done(rung as u64 + 1);
                }
                job.progress.end(&format!("{rungs} rungs measured with the integer engine"));
                Ok(())
            },
        )?;
        Ok(measured)
    }
}
