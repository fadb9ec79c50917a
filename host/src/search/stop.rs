//! When a fit ends, and why it did.

use std::fmt;

/// Why a fit ended. Whatever the reason, the result is the best seen so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The allowed evaluations are spent.
    BudgetSpent,
    /// The fitness that was asked for is reached.
    TargetReached,
    /// The last generations have brought nothing.
    Stagnated,
    /// The caller, or the embedder, asked to stop.
    Interrupted,
    /// The model failed.
    Failed,
}

impl fmt::Display for StopReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::BudgetSpent => "all evaluations are spent",
            Self::TargetReached => "the target fitness is reached",
            Self::Stagnated => "the last generations brought no improvement",
            Self::Interrupted => "interrupted",
            Self::Failed => "the model failed",
        })
    }
}

/// When too little improves to go on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stagnation {
    /// Whole generations to look back.
    pub generations: usize,
    /// The gain in best fitness over them at or below which the fit ends.
    pub tolerance: f64,
}

impl Stagnation {
    /// `best_after[g]`: best fitness seen up to the end of generation `g`, the
    /// start first.
    pub(super) fn holds(&self, best_after: &[f64]) -> bool {
        let Some(past) = best_after.len().checked_sub(self.generations + 1) else { return false };
        best_after[best_after.len() - 1] - best_after[past] <= self.tolerance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_back_over_whole_generations() {
        let stagnation = Stagnation { generations: 2, tolerance: 0.01 };
        assert!(!stagnation.holds(&[]));
        assert!(!stagnation.holds(&[0.5, 0.5]));
        assert!(stagnation.holds(&[0.5, 0.5, 0.5]));
        assert!(!stagnation.holds(&[0.5, 0.5, 0.6]));
        assert!(stagnation.holds(&[0.5, 0.6, 0.6, 0.605]));
    }
}
