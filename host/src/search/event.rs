//! What a fit tells while it runs.

use crate::search::Statistics;

/// Progress of a fit.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum FitEvent {
    /// The dense model is embedded and the fit begins, or goes on after
    /// `evaluated` evaluations of an earlier run.
    Started { evaluated: usize, budget: usize },
    /// A sub-network was run over the calibration images.
    Embedded { similarity: f64 },
    /// A point was evaluated at every sparsity.
    Evaluated { evaluated: usize, budget: usize, fitness: f64, best: f64, statistics: Statistics },
    /// A whole generation was told to the strategy; the start is generation 0.
    GenerationEnded { generation: usize, best: f64 },
}
