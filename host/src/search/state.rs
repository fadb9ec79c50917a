//! Where a fit stands after whole evaluations: all that a resume needs.

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use crate::ranking::{Factors, RankingError};
use crate::search::evaluator::Measured;
use crate::search::memo::Memo;
use crate::search::{FitOptions, Fitted, Problem, Statistics, StopReason, Strategy, StrategyError, exact};

/// The state of a fit; written to the checkpoint as it is.
#[derive(Serialize, Deserialize)]
#[serde(bound = "S: Strategy")]
pub(super) struct State<S> {
    pub(super) strategy: S,
    #[serde(with = "exact::numbers")]
    pub(super) history: Vec<f64>,
    /// How much of the history the strategy knows; the start is not its business.
    pub(super) told: usize,
    /// Best fitness after the start and after each generation.
    #[serde(with = "exact::numbers")]
    pub(super) best_after: Vec<f64>,
    best: Option<Best>,
    pub(super) memo: Memo,
    pub(super) statistics: Statistics,
}

#[derive(Clone, Serialize, Deserialize)]
struct Best {
    #[serde(with = "exact::numbers")]
    point: Vec<f64>,
    #[serde(with = "exact::numbers")]
    similarities: Vec<f64>,
    #[serde(with = "exact::number")]
    fitness: f64,
}

impl<S: Strategy> State<S> {
    pub(super) fn new(strategy: S) -> Self {
        Self {
            strategy,
            history: Vec::new(),
            told: 0,
            best_after: Vec::new(),
            best: None,
            memo: Memo::default(),
            statistics: Statistics::default(),
        }
    }

    pub(super) fn best_fitness(&self) -> f64 {
        self.best.as_ref().map_or(f64::NEG_INFINITY, |best| best.fitness)
    }

    pub(super) fn stop(&self, options: &FitOptions<'_>) -> Option<StopReason> {
        if options.target.is_some_and(|target| self.best_fitness() >= target) {
            Some(StopReason::TargetReached)
        } else if options.stagnation.is_some_and(|stagnation| stagnation.holds(&self.best_after)) {
            Some(StopReason::Stagnated)
        } else if self.history.len() >= options.evaluations {
            Some(StopReason::BudgetSpent)
        } else if options.interrupt.load(Ordering::Relaxed) {
            Some(StopReason::Interrupted)
        } else {
            None
        }
    }

    /// The point to evaluate next and the number of points in its generation. The
    /// start is a generation of its own.
    pub(super) fn next_point(&mut self, start: &Factors) -> (Vec<f64>, usize) {
        if self.history.is_empty() {
            return (start.values().to_vec(), 1);
        }
        let mut points = self.strategy.ask();
        let generation = points.len();
        (points.swap_remove(self.history.len() - self.told), generation)
    }

    /// Takes the measurements of `point` and gives its fitness.
    pub(super) fn record(&mut self, point: Vec<f64>, measured: Measured) -> f64 {
        let Measured { similarities, new } = measured;
        self.statistics.asked += similarities.len();
        self.statistics.embedded += new.len();
        self.memo.extend(new);
        let fitness = similarities.iter().sum::<f64>() / similarities.len() as f64;
        self.history.push(fitness);
        if fitness > self.best_fitness() {
            self.best = Some(Best { point, similarities, fitness });
        }
        fitness
    }

    pub(super) fn end_generation(&mut self) -> Result<(), StrategyError> {
        // The start was not the strategy's point.
        if self.told > 0 {
            self.strategy.tell(&self.history[self.told..])?;
        }
        self.told = self.history.len();
        self.best_after.push(self.best_fitness());
        Ok(())
    }

    pub(super) fn fitted(self, problem: &Problem<'_>, stop: StopReason) -> Result<Fitted, RankingError> {
        let (factors, fitness, similarities) = match self.best {
            Some(best) => {
                let factors = Factors::from_point(problem.quanta.shape(), &best.point)?;
                (factors, Some(best.fitness), best.similarities)
            }
            None => (problem.start.clone(), None, Vec::new()),
        };
        Ok(Fitted { factors, fitness, similarities, history: self.history, statistics: self.statistics, stop })
    }
}
