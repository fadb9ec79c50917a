//! Why a fit cannot go on.

use crate::ranking::RankingError;
use crate::search::{CheckpointError, FitnessError, Fitted, StrategyError};

/// Why a fit cannot start or go on. `E` is the embedder's own error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FitError<E: std::error::Error + 'static> {
    /// The model cannot run.
    #[error("the model cannot embed the calibration images")]
    Embedder(#[source] E),
    /// The model failed after some evaluations.
    #[error("the model failed after {} evaluations", best.history.len())]
    Midway {
        source: E,
        /// The best until then.
        best: Box<Fitted>,
    },
    /// The factors or sparsities do not fit the model.
    #[error(transparent)]
    Ranking(#[from] RankingError),
    /// The embeddings cannot be compared.
    #[error(transparent)]
    Fitness(#[from] FitnessError),
    /// The strategy refused a generation.
    #[error(transparent)]
    Strategy(#[from] StrategyError),
    /// The checkpoint cannot be read, written or used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}
