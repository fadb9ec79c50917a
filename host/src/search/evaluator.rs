//! From a point of the search to its similarities.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::ranking::{Factors, RemovalOrder, Selection};
use crate::search::memo::Memo;
use crate::search::{Embedder, FitError, FitEvent, FitnessError, PcaFitness, Problem};

/// Runs the sub-networks of points and compares them with the dense model.
pub(super) struct Evaluator<'a, E> {
    problem: &'a Problem<'a>,
    embedder: &'a mut E,
    fitness: PcaFitness,
    interrupt: &'a AtomicBool,
}

/// The similarities of one point.
pub(super) struct Measured {
    /// At each sparsity.
    pub(super) similarities: Vec<f64>,
    /// Those that had to be run.
    pub(super) new: Vec<(Selection, f64)>,
}

impl<'a, E: Embedder> Evaluator<'a, E> {
    /// Compares with `dense`, the embeddings of the dense model.
    pub(super) fn new(
        problem: &'a Problem<'a>,
        embedder: &'a mut E,
        dense: &[f32],
        interrupt: &'a AtomicBool,
    ) -> Result<Self, FitnessError> {
        let fitness = PcaFitness::fit(dense, embedder.dimensions())?;
        Ok(Self { problem, embedder, fitness, interrupt })
    }

    /// Measures the sub-networks of `point` that `memo` does not know. `None` if
    /// interrupted on the way: what was measured of the point is then forgotten.
    pub(super) fn measure(
        &mut self,
        point: &[f64],
        memo: &Memo,
        observe: &mut dyn FnMut(FitEvent),
    ) -> Result<Option<Measured>, FitError<E::Error>> {
        let factors = Factors::from_point(self.problem.quanta.shape(), point)?;
        let order = RemovalOrder::new(self.problem.quanta, &factors, self.problem.arrangement);
        let sparsities = self.problem.sparsities.as_slice();
        let wanted: Vec<Selection> = sparsities.iter().map(|&sparsity| order.selection(sparsity)).collect();
        let mut unknown: Vec<Selection> = Vec::new();
        for kept in &wanted {
            if memo.get(kept).is_none() && !unknown.contains(kept) {
                unknown.push(kept.clone());
            }
        }
        let embedded = self.embedder.embed_all(&unknown, self.interrupt).map_err(FitError::Embedder)?;
        let Some(embedded) = embedded else { return Ok(None) };
        let mut new = Vec::with_capacity(unknown.len());
        for (kept, embeddings) in unknown.into_iter().zip(embedded) {
            let similarity = self.fitness.similarity(&embeddings)?;
            observe(FitEvent::Embedded { similarity });
            new.push((kept, similarity));
        }
        let just_run = |kept: &Selection| new.iter().find(|(run, _)| run == kept).map(|(_, similarity)| *similarity);
        let known = |kept: &Selection| memo.get(kept).or_else(|| just_run(kept));
        let similarities = wanted.iter().filter_map(known).collect();
        Ok(Some(Measured { similarities, new }))
    }
}

/// Runs the model once; `None` if interrupted.
pub(super) fn embed<E: Embedder>(
    embedder: &mut E,
    kept: &Selection,
    interrupt: &AtomicBool,
) -> Result<Option<Vec<f32>>, FitError<E::Error>> {
    if interrupt.load(Ordering::Relaxed) {
        return Ok(None);
    }
    embedder.embed(kept).map_err(FitError::Embedder)
}
