//! What can go wrong while compensation is fitted.

use crate::executor::ExecutorError;

/// An error of [`fit`](super::fit).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompensationError {
    #[error("{found} pixel values are no whole images of {pixels_per_image}")]
    Pixels { pixels_per_image: usize, found: usize },
    #[error("the second moments of {inputs} inputs cannot be inverted: a value is not finite")]
    Singular { inputs: usize },
    #[error("interrupted after {layers} layers")]
    Interrupted { layers: usize },
    #[error("the model failed")]
    Executor(#[from] ExecutorError),
}

impl From<candle_core::Error> for CompensationError {
    fn from(error: candle_core::Error) -> Self {
        Self::Executor(error.into())
    }
}
