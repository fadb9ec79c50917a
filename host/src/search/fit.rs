//! The loop that fits the factors.

use std::sync::atomic::AtomicBool;

use crate::ranking::{Arrangement, Factors, Quanta, Selection, Sparsities, SparsityPath};
use crate::search::evaluator::{Evaluator, embed};
use crate::search::fingerprint::Fingerprint;
use crate::search::state::State;
use crate::search::{CheckpointFile, Embedder, FitError, FitEvent, Stagnation, Statistics, StopReason, Strategy};

/// What is fitted.
#[derive(Clone, Copy, Debug)]
pub struct Problem<'a> {
    /// The structures with their local scores and floors.
    pub quanta: &'a Quanta,
    /// How the scores of heads and neurons compare.
    pub arrangement: Arrangement,
    /// The sparsities over which the fitness is the mean.
    pub sparsities: &'a Sparsities,
    /// The factors that are evaluated first.
    pub start: &'a Factors,
}

/// When a fit ends and where it is kept.
#[derive(Clone, Debug)]
pub struct FitOptions<'a> {
    /// Evaluations of the fitness, the start included; those of an earlier run,
    /// when it is resumed, included too.
    pub evaluations: usize,
    /// End when the last generations improved too little.
    pub stagnation: Option<Stagnation>,
    /// End when the fitness is at least this.
    pub target: Option<f64>,
    /// Keep the state in a file.
    pub checkpoint: Option<CheckpointFile>,
    /// End when set; looked at before each sub-network is run.
    pub interrupt: &'a AtomicBool,
}

impl<'a> FitOptions<'a> {
    /// The published budget, spent whatever it brings, without a checkpoint.
    #[must_use]
    pub fn new(interrupt: &'a AtomicBool) -> Self {
        Self { evaluations: 50, stagnation: None, target: None, checkpoint: None, interrupt }
    }
}

/// The result of a fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// The best factors seen.
    pub factors: Factors,
    /// Their fitness; `None` if the fit was interrupted before the first evaluation,
    /// and the factors are then the start.
    pub fitness: Option<f64>,
    /// Their similarity at each sparsity.
    pub similarities: Vec<f64>,
    /// The fitness of every evaluation; the first is the start's.
    pub history: Vec<f64>,
    /// What the memo saved.
    pub statistics: Statistics,
    /// Why the fit ended.
    pub stop: StopReason,
}

/// Looks for the factors of highest fitness.
///
/// The same inputs give the same result and the same checkpoint, bit for bit,
/// also when the fit was cut anywhere and resumed.
///
/// # Errors
/// If the sparsities lie beyond the floors, the model cannot run, its embeddings
/// cannot be compared, the strategy fails, or the checkpoint cannot be used.
/// Where the model fails midway, the error has the best so far.
pub fn fit<S: Strategy, E: Embedder>(
    problem: &Problem<'_>,
    strategy: S,
    embedder: &mut E,
    options: &FitOptions<'_>,
    observe: &mut dyn FnMut(FitEvent),
) -> Result<Fitted, FitError<E::Error>> {
    SparsityPath::new(problem.sparsities, problem.quanta.limit())?;
    let mut state = State::new(strategy);
    if options.evaluations == 0 {
        // Nothing is compared, so the model need not run.
        return Ok(state.fitted(problem, StopReason::BudgetSpent)?);
    }
    let everything = Selection::dense(problem.quanta.shape());
    let Some(dense) = embed(embedder, &everything, options.interrupt)? else {
        return Ok(state.fitted(problem, StopReason::Interrupted)?);
    };
    let mut evaluator = Evaluator::new(problem, embedder, &dense, options.interrupt)?;
    let fingerprint = Fingerprint::new(problem, state.strategy.settings(), &dense);
    if let Some(file) = &options.checkpoint
        && let Some(resumed) = file.load(&fingerprint)?
    {
        state = resumed;
    }
    let budget = options.evaluations;
    observe(FitEvent::Started { evaluated: state.history.len(), budget });
    let stop = loop {
        if let Some(reason) = state.stop(options) {
            break reason;
        }
        let (point, generation) = state.next_point(problem.start);
        let measured = match evaluator.measure(&point, &state.memo, observe) {
            Ok(Some(measured)) => measured,
            Ok(None) => break StopReason::Interrupted,
            // What was found so far is worth as much as after an interruption.
            Err(FitError::Embedder(source)) if !state.history.is_empty() => {
                let best = Box::new(state.fitted(problem, StopReason::Failed)?);
                return Err(FitError::Midway { source, best });
            }
            Err(error) => return Err(error),
        };
        let found = state.record(point, measured);
        let generation_ended = state.history.len() - state.told == generation;
        if generation_ended {
            state.end_generation()?;
        }
        if let Some(file) = &options.checkpoint {
            file.save(&fingerprint, &state)?;
        }
        let (evaluated, best) = (state.history.len(), state.best_fitness());
        observe(FitEvent::Evaluated { evaluated, budget, fitness: found, best, statistics: state.statistics });
        if generation_ended {
            observe(FitEvent::GenerationEnded { generation: state.best_after.len() - 1, best });
        }
    };
    Ok(state.fitted(problem, stop)?)
}

#[cfg(test)]
mod tests;
