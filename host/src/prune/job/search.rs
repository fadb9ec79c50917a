//! The search for factors between blocks.

use std::sync::atomic::AtomicBool;

use headroom_device::model::Weights;

use super::super::images::JobImages;
use super::super::{Method, PruneError};
use super::{Job, Passes, is_set};
use crate::checkpoint::{BlockOrder, Permutation};
use crate::embedder::{EmbedError, ImageEmbedder, JudgedModel};
use crate::executor::ChosenDevices;
use crate::ranking::{Factors, Quanta, Selection};
use crate::search::{self, Embedder, FitError, FitEvent, FitOptions, Fitted, Problem, Xnes, XnesOptions};

impl Job<'_> {
    pub(super) fn search(
        &mut self,
        weights: &Weights,
        quanta: &Quanta,
        images: &JobImages,
    ) -> Result<Fitted, PruneError> {
        let count = images.calibration_count() as u64;
        let dense = u64::from(self.options.evaluations() > 0);
        let passes = |fitted: &Fitted| Passes::forward((fitted.statistics.embedded as u64 + dense) * count);
        let arrangement = self.arrangement(quanta.shape());
        let fitted = self.stage("search", passes, |job| {
            let description = &job.checkpoint.description;
            let sorted = sorted_neurons(quanta, description.heads).apply(description, weights)?;
            // The scores alone need no model.
            let judges = if job.options.evaluations() > 0 { &job.judges } else { &ChosenDevices::cpu() };
            let model = JudgedModel::load(judges, description, &sorted)?;
            let embedder = model.embedder(job.judged_images(judges, "search", images, images.calibration())?)?;
            let fisher = job.scores.is_none() && job.options.method() == Method::Snapvit;
            // Other scores compare between blocks as they are.
            let start = if fisher { Factors::start } else { Factors::ones }(quanta.shape());
            let problem = Problem { quanta, arrangement, sparsities: &job.options.sparsities, start: &start };
            let options = FitOptions {
                evaluations: job.options.evaluations() as usize,
                checkpoint: Some(job.kept_state.search()),
                ..FitOptions::new(job.interrupt)
            };
            let strategy = Xnes::new(XnesOptions::new(start.values().to_vec(), job.options.seed))?;
            let mut observe = |event| job.tell(event);
            let evaluations = u64::from(job.options.evaluations());
            if evaluations > 0 {
                job.progress.begin("search", evaluations, "evaluations");
            }
            let fitted = search::fit(&problem, strategy, &mut SearchEmbedder(embedder), &options, &mut observe)?;
            if let (Some(best), Some(start)) = (fitted.fitness, fitted.history.first()) {
                let Fitted { stop, statistics, .. } = &fitted;
                job.progress.end(&format!("{stop}; fitness {best:.4} (start {start:.4}); {statistics}"));
            }
            Ok(fitted)
        });
        match fitted {
            Err(PruneError::Search(FitError::Midway { source, best })) => {
                self.fail(PruneError::Search(FitError::Embedder(source)).in_stage("search", &self.judges));
                self.judges = ChosenDevices::cpu();
                Ok(*best)
            }
            fitted => fitted,
        }
    }

    fn tell(&self, event: FitEvent) {
        if let FitEvent::Evaluated { evaluated, .. } = event {
            self.progress.done(evaluated as u64);
        }
    }
}

/// Neurons by falling importance, heads as they are: what the search runs on.
fn sorted_neurons(quanta: &Quanta, heads: usize) -> Permutation {
    let order = |neurons: &[u16]| BlockOrder {
        heads: (0..heads).collect(),
        neurons: neurons.iter().map(|&index| usize::from(index)).collect(),
    };
    Permutation { blocks: quanta.neuron_orders().map(order).collect() }
}

/// What judges sub-networks, as the search sees it.
struct SearchEmbedder<'a>(ImageEmbedder<'a>);

impl Embedder for SearchEmbedder<'_> {
    type Error = EmbedError;

    fn dimensions(&self) -> usize {
        self.0.embed_dim()
    }

    fn embed(&mut self, kept: &Selection) -> Result<Option<Vec<f32>>, EmbedError> {
        self.0.embed(kept).map(Some)
    }

    fn embed_all(&mut self, kept: &[Selection], interrupt: &AtomicBool) -> Result<Option<Vec<Vec<f32>>>, EmbedError> {
        let mut all = Vec::with_capacity(kept.len());
        for together in kept.chunks(self.0.in_flight()) {
            if is_set(interrupt) {
                return Ok(None);
            }
            all.extend(self.0.embed_all(together)?);
        }
        Ok(Some(all))
    }
}
