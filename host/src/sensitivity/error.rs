//! What can go wrong while sensitivity is estimated.

use crate::executor::ExecutorError;

/// An error of [`estimate`](super::estimate).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SensitivityError {
    #[error("sensitivity needs at least one probe")]
    NoProbes,
    #[error(transparent)]
    Pixels(#[from] ExecutorError),
    #[error("near image {image}: the embedding or a slope is not a finite number")]
    NotFinite { image: usize },
    #[error("interrupted after {images} images")]
    Interrupted { images: usize },
    /// A thread that served a GPU panicked.
    #[error("a thread that served a GPU ended early")]
    Thread,
    #[error("near image {image}: the model failed")]
    Executor { image: usize, source: ExecutorError },
}
