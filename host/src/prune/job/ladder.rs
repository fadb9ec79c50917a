//! The rungs, measured: with the original weights, and then those that need it with corrections.

use headroom_device::engine::{Corrected, ElasticVit, EngineError};
use headroom_device::model::Weights;
use headroom_shared::{ModelShape, SubNetwork};

use super::super::images::JobImages;
use super::super::measure::{self, Measured};
use super::super::{AttentionUnits, PruneError};
use super::compensation::Compensation;
use super::{Job, Passes, Ranked};
use crate::embedder::{CpuEmbedder, mean_cosine};

/// A rung that is as faithful as this with the original weights runs with them: there is nothing to make up for.
const FAITHFUL: f32 = 0.999;

/// The measured rungs, and what measures them.
pub(super) struct MeasuredLadder {
    pub vit: ElasticVit,
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
                let vit = ElasticVit::new(&job.checkpoint.description, permuted)?;
                let embedder = job.embedder(&vit, images);
                job.progress.begin("ladder", rungs.len() as u64, "rungs");
                let dense = job.dense_embeddings(images, &embedder, shape)?;
                let mut measured = Vec::with_capacity(rungs.len());
                for (&steps, sub_network) in rungs.iter().zip(sub_networks) {
                    let uncorrected = fidelity(&embedder, &dense, sub_network, None)?;
                    measured.push(measure::rung(shape, steps, sub_network, uncorrected, &job.board.profile));
                    job.progress.done(measured.len() as u64);
                }
                job.progress.end(&format!("{} rungs measured on {} images", rungs.len(), images.fidelity_count()));
                Ok(MeasuredLadder { vit, dense, measured })
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
        let MeasuredLadder { vit, dense, mut measured } = ladder;
        let corrected: Vec<usize> = compensation.corrections.places().map(|(rung, ..)| rung).collect();
        if corrected.is_empty() {
            return Ok(MeasuredLadder { vit, dense, measured });
        }
        let passes = (corrected.len() * images.fidelity_count()) as u64;
        let vit = vit.with_corrections(&compensation.corrections)?;
        let fidelities = self.stage(
            "corrected ladder",
            |_| Passes::forward(passes),
            |job| {
                let embedder = job.embedder(&vit, images);
                job.progress.begin("ladder", corrected.len() as u64, "rungs");
                let mut fidelities = Vec::with_capacity(corrected.len());
                for (number, &rung) in corrected.iter().enumerate() {
                    fidelities.push(fidelity(&embedder, &dense, &ranked.sub_networks[rung], Some(number))?);
                    job.progress.done(fidelities.len() as u64);
                }
                job.progress.end(&format!("{} rungs measured with corrections", corrected.len()));
                Ok(fidelities)
            },
        )?;
        for (rung, fidelity) in corrected.into_iter().zip(fidelities) {
            measured[rung].correct(fidelity);
        }
        compensation.corrections.retain(|rung| measured[rung].is_corrected());
        Ok(MeasuredLadder { vit, dense, measured })
    }

    /// What the original model makes of the images. Where its weights are only permuted, that is what they still make.
    fn dense_embeddings(
        &self,
        images: &JobImages,
        permuted: &CpuEmbedder<'_>,
        shape: &ModelShape,
    ) -> Result<Vec<f32>, PruneError> {
        let dense = SubNetwork::dense(shape);
        if self.options.attention_units() == AttentionUnits::Heads {
            return Ok(permuted.embed(&dense)?);
        }
        let original = ElasticVit::new(&self.checkpoint.description, &self.checkpoint.weights()?)?;
        Ok(self.embedder(&original, images).embed(&dense)?)
    }

    pub(super) fn embedder<'a>(&self, vit: &'a ElasticVit, images: &'a JobImages) -> CpuEmbedder<'a> {
        CpuEmbedder::new(vit, images.fidelity(), images.pixels_per_image(), self.checkpoint.description.embed_dim)
    }
}

/// How near a rung's embeddings are to the `dense` ones, with the correction of that number.
fn fidelity(
    embedder: &CpuEmbedder<'_>,
    dense: &[f32],
    sub_network: &SubNetwork,
    correction: Option<usize>,
) -> Result<f32, EngineError> {
    let embeddings = embedder.embed(&Corrected { kept: sub_network, correction })?;
    Ok(mean_cosine(&embeddings, dense, embedder.embed_dim()).clamp(-1.0, 1.0) as f32)
}
