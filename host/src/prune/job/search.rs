//! The search for factors between blocks.

use headroom_device::engine::{ElasticVit, EngineError};
use headroom_device::model::Weights;

use super::super::images::JobImages;
use super::super::{Method, PruneError};
use super::{Job, Passes};
use crate::checkpoint::{BlockOrder, Permutation};
use crate::embedder::CpuEmbedder;
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
            let vit = ElasticVit::new(description, &sorted)?;
            let embedder =
                CpuEmbedder::new(&vit, images.calibration(), images.pixels_per_image(), description.embed_dim);
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
                self.fail(PruneError::Search(FitError::Embedder(source)));
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

/// The engine as the search sees it.
struct SearchEmbedder<'a>(CpuEmbedder<'a>);

impl Embedder for SearchEmbedder<'_> {
    type Error = EngineError;

    fn dimensions(&self) -> usize {
        self.0.embed_dim()
    }

    fn embed(&mut self, kept: &Selection) -> Result<Option<Vec<f32>>, EngineError> {
        self.0.embed(kept).map(Some)
    }
}
