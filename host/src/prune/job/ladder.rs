//! The rungs, measured.

use headroom_device::engine::ElasticVit;
use headroom_device::model::Weights;
use headroom_shared::{ModelShape, SubNetwork};

use super::super::images::JobImages;
use super::super::measure::Measured;
use super::super::{AttentionUnits, PruneError, measure};
use super::compensation::Compensation;
use super::{Job, Passes, Ranked};
use crate::embedder::CpuEmbedder;

/// The measured rungs, and the corrections that make some of them more faithful.
pub(super) struct MadeLadder {
    pub measured: Vec<Measured>,
    pub compensation: Compensation,
}

impl Job<'_> {
    pub(super) fn ladder(
        &mut self,
        permuted: &Weights,
        ranked: &Ranked,
        mut compensation: Compensation,
        images: &JobImages,
    ) -> Result<MadeLadder, PruneError> {
        let Ranked { shape, ranking, rungs, .. } = ranked;
        let corrected: Vec<usize> = compensation.corrections.places().map(|(rung, ..)| rung).collect();
        // The dense model comes on top.
        let passes = (1 + rungs.len() + corrected.len()) as u64 * images.fidelity_count() as u64;
        let measured = self.stage(
            "ladder",
            |_| Passes::forward(passes),
            |job| {
                let description = &job.checkpoint.description;
                let vit = ElasticVit::new(description, permuted)?.with_corrections(&compensation.corrections)?;
                let pixels = images.fidelity();
                let embedder = CpuEmbedder::new(&vit, pixels, images.pixels_per_image(), description.embed_dim);
                job.progress.begin("ladder", rungs.len() as u64, "rungs");
                let dense = job.dense_embeddings(images, &embedder, shape)?;
                let board = &job.board.profile;
                let steps = &ranking.steps;
                let measured =
                    measure::measure(shape, steps, rungs, &corrected, &dense, &embedder, board, job.progress)?;
                job.progress.end(&format!("{} rungs measured on {} images", rungs.len(), images.fidelity_count()));
                Ok(measured)
            },
        )?;
        compensation.corrections.retain(|rung| measured[rung].is_corrected());
        Ok(MadeLadder { measured, compensation })
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
        let description = &self.checkpoint.description;
        let original = ElasticVit::new(description, &self.checkpoint.weights()?)?;
        let embedder = CpuEmbedder::new(&original, images.fidelity(), images.pixels_per_image(), description.embed_dim);
        Ok(embedder.embed(&dense)?)
    }
}
