//! The seam to the algorithm that proposes points.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// An algorithm that looks for the point of highest fitness, by asking and telling.
///
/// The whole state, random numbers included, is serialisable, and a strategy that
/// is read back goes on exactly as the one that was written.
pub trait Strategy: Serialize + DeserializeOwned {
    /// The next generation of points. Asking again before telling gives the same points.
    fn ask(&mut self) -> Vec<Vec<f64>>;

    /// Takes the fitness of each point that was last asked for; higher is better.
    ///
    /// # Errors
    /// If nothing was asked, the number of values differs or a value is NaN; the
    /// strategy is then unchanged. Or if the numbers of the strategy itself overflow.
    fn tell(&mut self, fitness: &[f64]) -> Result<(), StrategyError>;

    /// Name and settings in one line, seed included: what decides which points it proposes.
    fn settings(&self) -> String;
}

/// Why a strategy cannot start or go on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StrategyError {
    /// An option is out of range.
    #[error("{option} is {found}, expected {expected}")]
    Option { option: &'static str, expected: &'static str, found: String },
    /// Fitness was told before points were asked for.
    #[error("fitness told before a generation was asked for")]
    NothingAsked,
    /// The number of fitness values is not the number of points.
    #[error("fitness of {found} points told, expected {expected}")]
    Count { expected: usize, found: usize },
    /// A fitness is NaN and cannot be ranked.
    #[error("the fitness of point {point} is NaN")]
    NotANumber { point: usize },
    /// The search distribution has left the range of f64.
    #[error("the search distribution has diverged at generation {generation}")]
    Diverged { generation: u64 },
}
