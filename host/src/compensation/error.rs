//! What can go wrong while compensation is fitted.

use crate::executor::ExecutorError;

/// An error of [`fit`](super::fit).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompensationError {
    #[error("the second moments of {inputs} inputs cannot be inverted: a value is not finite")]
    Singular { inputs: usize },
    #[error("interrupted after {layers} layers")]
    Interrupted { layers: usize },
    #[error(transparent)]
    Executor(#[from] ExecutorError),
}

impl From<candle_core::Error> for CompensationError {
    fn from(error: candle_core::Error) -> Self {
        Self::Executor(error.into())
    }
}
