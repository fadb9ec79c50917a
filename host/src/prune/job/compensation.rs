//! Matrices that make up for what the rungs remove.

use candle_core::DType;
use headroom_device::model::corrections::CorrectionsError;
use headroom_device::model::{Corrections, Weights};

use super::super::PruneError;
use super::super::images::JobImages;
use super::ladder::MeasuredLadder;
use super::memory::Remedy;
use super::{Job, Passes, Ranked, is_set};
use crate::compensation::{self, CompensationError, Mode, Rungs};
use crate::executor::CandleVit;
use crate::executor::memory::{Held, Way};
use crate::ladder::nearest_rungs;

/// Shares of the dense MACs whose nearest unfaithful rungs the matrices of compensation are fitted on: milder rungs hardly need
/// them, and smaller ones would spoil them for all.
const COMPENSATED_SHARES: [f64; 5] = [0.7, 0.6, 0.5, 0.4, 0.3];

/// What makes up for removed structures.
#[derive(Default)]
pub(super) struct Compensation {
    /// The rungs that the matrices were fitted on.
    pub fitted_on: Vec<usize>,
    pub corrections: Corrections,
    /// Whether the user did not want to wait for it.
    pub interrupted: bool,
}

impl Job<'_> {
    /// Corrections for the rungs of `ladder` that need one, and the rungs that they were fitted on.
    ///
    /// None if the user stops the job or the device fails: the ladder is then that of the original weights.
    pub(super) fn compensation(
        &mut self,
        permuted: &Weights,
        ranked: &Ranked,
        ladder: &MeasuredLadder,
        images: &JobImages,
    ) -> Result<Compensation, PruneError> {
        let mode = self.options.compensate();
        let corrected = ladder.unfaithful();
        if mode == Mode::None || corrected.is_empty() {
            return Ok(Compensation::default());
        }
        let interrupted = Compensation { interrupted: true, ..Compensation::default() };
        if is_set(self.interrupt) {
            return Ok(interrupted);
        }
        let Ranked { shape, sub_networks, .. } = ranked;
        let chosen = nearest_rungs(shape, sub_networks, &corrected, &COMPENSATED_SHARES);
        let rungs = Rungs { sub_networks, corrected: &corrected, chosen: &chosen };
        let passes = compensation::passes(mode, corrected.len(), chosen.len()) * images.calibration_count();
        let dtype = self.checkpoint.dtype();
        let fitted = self.stage(
            "compensation",
            |_| Passes::forward(passes as u64),
            |job| {
                let description = &job.checkpoint.description;
                let (beside, inputs) = compensation::rungs_held(mode, chosen.len());
                let device = job.devices.first();
                let way = Way::on(device, compensation::tokens_together(device));
                let held = Held::RungTokens { images: images.calibration_count(), rungs: beside, inputs, way };
                job.check_memory("compensation", held, Remedy::ImagesLimit)?;
                let model = CandleVit::load(description, permuted, device, DType::F32)?;
                let layers = compensation::layers(mode, model.depth(), corrected.len(), chosen.len());
                job.progress.begin("compensation", layers as u64, "layers");
                let options = compensation::Options {
                    mode,
                    feedback: 1.0,
                    damping: job.options.damping,
                    interrupt: job.interrupt,
                };
                let done = |done| job.progress.done(done as u64);
                let fitted = compensation::fit(&model, rungs, images.calibration(), options, &done)?;
                let (fitted_on, all) = (chosen.len(), sub_networks.len());
                job.progress.end(&format!("fitted on {fitted_on} of {all} rungs, for {}", corrected.len()));
                // As they will be stored, so that what is measured is what will run.
                let stored = fitted.to_safetensors(dtype).map_err(CorrectionsError::from)?;
                Ok(Corrections::from_safetensors(&stored, model.depth(), all)?)
            },
        );
        match fitted {
            Err(PruneError::Compensation(CompensationError::Interrupted { .. })) => Ok(interrupted),
            // The ladder of the original weights is worth a bundle.
            Err(error) if error.is_of_device() => {
                self.fail(error);
                Ok(Compensation::default())
            }
            fitted => Ok(Compensation { fitted_on: chosen, corrections: fitted?, interrupted: false }),
        }
    }
}
