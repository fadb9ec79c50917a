//! Why a ranking cannot be made.

use headroom_shared::ShapeError;

use crate::ranking::Sparsity;

/// Why a ranking cannot be made from the given numbers.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RankingError {
    /// No model has this shape.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A list of scores or factors has another length than the model's shape asks for.
    #[error("{what}: expected {expected}, found {found}")]
    Length { what: String, expected: usize, found: usize },
    /// A score is NaN, infinite or negative.
    #[error("the importance of {what} is {value}, expected a finite number that is not negative")]
    Score { what: String, value: f64 },
    /// A factor is NaN or infinite.
    #[error("factor {index} is {value}, expected a finite number")]
    Factor { index: usize, value: f64 },
    /// A floor is not a ratio.
    #[error("the floor of {what} is {value}, expected a ratio from 0 to 1")]
    Floor { what: &'static str, value: f64 },
    /// A sparsity asks for structures that the floors protect.
    #[error("sparsity {asked} removes more than the floors allow, at most {limit}")]
    BeyondFloors { asked: Sparsity, limit: Sparsity },
}
