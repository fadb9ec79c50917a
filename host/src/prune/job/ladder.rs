//! The rungs, measured: with the original weights, and then those that need it with corrections.

use headroom_device::engine::Corrected;
use headroom_device::model::{Corrections, Weights};
use headroom_shared::{KeptStructures, ModelShape, SubNetwork};

use super::super::images::JobImages;
use super::super::measure::{self, Measured};
use super::super::{AttentionUnits, PruneError};
use super::compensation::Compensation;
use super::{Job, Passes, Ranked};
use crate::embedder::{EmbedError, ImageEmbedder, JudgedModel, mean_cosine};
use crate::executor::ChosenDevices;

/// A rung that is as faithful as this with the original weights runs with them: there is nothing to make up for.
const FAITHFUL: f32 = 0.999;

/// The measured rungs, and what measures them.
pub(super) struct MeasuredLadder {
    pub model: JudgedModel,
    /// What the original model makes of the images.
    pub dense: Vec<f32>,
    pub measured: Vec<Measured>,
}

impl MeasuredLadder {
    /// The rungs that a correction could make more faithful.
    pub(super) fn unfaithful(&self) -> Vec<usize> {
        (1..self.measured.len()).filter(|&rung| self.measured[rung].uncorrected < FAITHFUL).collect()
    }
}

impl Job<'_> {
    /// Measures every rung with the original weights.
    ///
    /// Its time is known, so that Ctrl-C waits for it: without it there is no bundle to write.
    pub(super) fn ladder(
        &mut self,
        permuted: &Weights,
        ranked: &Ranked,
        images: &JobImages,
    ) -> Result<MeasuredLadder, PruneError> {
        let Ranked { shape, rungs, sub_networks, .. } = ranked;
        // The dense model comes on top.
        let passes = (1 + rungs.len()) as u64 * images.fidelity_count() as u64;
        self.stage(
            "ladder",
            |_| Passes::forward(passes),
            |job| {
                let model = JudgedModel::load(&job.judges, &job.checkpoint.description, permuted)?;
                let embedder =
                    model.embedder(job.judged_images(&job.judges, "ladder", images, images.fidelity())?)?;
                job.progress.begin("ladder", rungs.len() as u64, "rungs");
                let dense = job.dense_embeddings(images, &embedder, shape)?;
                let mut measured = Vec::with_capacity(rungs.len());
                let together = embedder.in_flight();
                for (steps, kept) in rungs.chunks(together).zip(sub_networks.chunks(together)) {
                    let fidelities = fidelities(&embedder, &dense, kept)?;
                    for ((&steps, sub_network), uncorrected) in steps.iter().zip(kept).zip(fidelities) {
                        measured.push(measure::rung(shape, steps, sub_network, uncorrected, &job.board.profile));
                    }
                    job.progress.done(measured.len() as u64);
                }
                job.progress.end(&format!("{} rungs measured on {} images", rungs.len(), images.fidelity_count()));
                drop(embedder);
                Ok(MeasuredLadder { model, dense, measured })
            },
        )
    }

    /// Measures the rungs that have a correction with it, and drops the corrections that do no good.
    pub(super) fn corrected_ladder(
        &mut self,
        ladder: MeasuredLadder,
        compensation: &mut Compensation,
        ranked: &Ranked,
        images: &JobImages,
    ) -> Result<MeasuredLadder, PruneError> {
        let MeasuredLadder { model, dense, mut measured } = ladder;
        let corrected: Vec<usize> = compensation.corrections.places().map(|(rung, ..)| rung).collect();
        if corrected.is_empty() {
            return Ok(MeasuredLadder { model, dense, measured });
        }
        let passes = (corrected.len() * images.fidelity_count()) as u64;
        let found = self.stage(
            "corrected ladder",
            |_| Passes::forward(passes),
            |job| {
                let model = model.with_corrections(&compensation.corrections)?;
                let embedder =
                    model.embedder(job.judged_images(&job.judges, "corrected ladder", images, images.fidelity())?)?;
                job.progress.begin("ladder", corrected.len() as u64, "rungs");
                let kept = |(number, &rung): (usize, &usize)| Corrected {
                    kept: &ranked.sub_networks[rung],
                    correction: Some(number),
                };
                let kept: Vec<_> = corrected.iter().enumerate().map(kept).collect();
                let mut found = Vec::with_capacity(corrected.len());
                for kept in kept.chunks(embedder.in_flight()) {
                    found.extend(fidelities(&embedder, &dense, kept)?);
                    job.progress.done(found.len() as u64);
                }
                job.progress.end(&format!("{} rungs measured with corrections", corrected.len()));
                drop(embedder);
                Ok((found, model))
            },
        );
        let (fidelities, model) = match found {
            Ok(found) => found,
            // The ladder of the original weights is worth a bundle, and needs no GPU any more.
            Err(error) if error.is_of_device() && !self.judges.gpus.is_empty() => {
                self.fail(error);
                self.judges = ChosenDevices::cpu();
                compensation.corrections = Corrections::default();
                return Ok(MeasuredLadder { model: JudgedModel::Gpus(Vec::new()), dense, measured });
            }
            Err(error) => return Err(error),
        };
        for (rung, fidelity) in corrected.into_iter().zip(fidelities) {
            measured[rung].correct(fidelity);
        }
        compensation.corrections.retain(|rung| measured[rung].is_corrected());
        Ok(MeasuredLadder { model, dense, measured })
    }

    /// What the original model makes of the images. Where its weights are only permuted, that is what they still make.
    fn dense_embeddings(
        &self,
        images: &JobImages,
        permuted: &ImageEmbedder<'_>,
        shape: &ModelShape,
    ) -> Result<Vec<f32>, PruneError> {
        let dense = SubNetwork::dense(shape);
        if self.options.attention_units() == AttentionUnits::Heads {
            return Ok(permuted.embed(&dense)?);
        }
        let original = JudgedModel::load(&self.judges, &self.checkpoint.description, &self.checkpoint.weights()?)?;
        Ok(original.embedder(self.judged_images(&self.judges, "ladder", images, images.fidelity())?)?.embed(&dense)?)
    }
}

/// How near the embeddings of rungs are to the `dense` ones.
fn fidelities<K: KeptStructures + Sync>(
    embedder: &ImageEmbedder<'_>,
    dense: &[f32],
    kept: &[K],
) -> Result<Vec<f32>, EmbedError> {
    let near = |found: &Vec<f32>| mean_cosine(found, dense, embedder.embed_dim()).clamp(-1.0, 1.0) as f32;
    Ok(embedder.embed_all(kept)?.iter().map(near).collect())
}
