//! Matrices that make up for what the rungs remove.

use candle_core::DType;
use headroom_device::model::corrections::CorrectionsError;
use headroom_device::model::{Corrections, Weights};
use headroom_shared::SubNetwork;

use super::super::PruneError;
use super::super::images::JobImages;
use super::{Job, Passes, Ranked, is_set};
use crate::compensation::{self, CompensationError, Mode};
use crate::executor::CandleVit;
use crate::ladder;

/// Shares of the dense MACs whose nearest rungs the matrices of compensation are fitted on: milder rungs hardly need
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
    /// Corrections for all rungs but the dense one, and the rungs that they were fitted on.
    ///
    /// None if the user stops the job: the ladder is then that of the original weights.
    pub(super) fn compensation(
        &mut self,
        permuted: &Weights,
        ranked: &Ranked,
        images: &JobImages,
    ) -> Result<Compensation, PruneError> {
        let mode = self.options.compensate();
        if mode == Mode::None {
            return Ok(Compensation::default());
        }
        let interrupted = Compensation { interrupted: true, ..Compensation::default() };
        if is_set(self.interrupt) {
            return Ok(interrupted);
        }
        let Ranked { shape, ranking, rungs, .. } = ranked;
        let after = |&steps: &u32| SubNetwork::after(shape, &ranking.steps[..steps as usize]);
        let sub_networks = rungs.iter().map(after).collect::<Result<Vec<_>, _>>()?;
        let chosen = ladder::nearest_rungs(shape, &sub_networks, &COMPENSATED_SHARES);
        let passes = (1 + 2 * chosen.len() + rungs.len() - 1) as u64 * images.calibration_count() as u64;
        let dtype = self.checkpoint.dtype();
        let fitted = self.stage(
            "compensation",
            |_| Passes::forward(passes),
            |job| {
                let description = &job.checkpoint.description;
                let model = CandleVit::load(description, permuted, &job.options.device.resolve()?, DType::F32)?;
                let layers = compensation::layers(mode, model.depth(), rungs.len(), chosen.len());
                job.progress.begin("compensation", layers as u64, "layers");
                let options = compensation::Options {
                    mode,
                    feedback: 1.0,
                    damping: job.options.damping,
                    interrupt: job.interrupt,
                };
                let done = |done| job.progress.done(done as u64);
                let fitted = compensation::fit(&model, &sub_networks, &chosen, images.calibration(), options, &done)?;
                job.progress.end(&format!("fitted on {} of {} rungs", chosen.len(), rungs.len()));
                // As they will be stored, so that what is measured is what will run.
                let stored = fitted.to_safetensors(dtype).map_err(CorrectionsError::from)?;
                Ok(Corrections::from_safetensors(&stored, model.depth(), rungs.len())?)
            },
        );
        match fitted {
            Err(PruneError::Compensation(CompensationError::Interrupted { .. })) => Ok(interrupted),
            fitted => Ok(Compensation { fitted_on: chosen, corrections: fitted?, interrupted: false }),
        }
    }
}
