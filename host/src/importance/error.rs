//! What can go wrong while importance is estimated.

use crate::executor::ExecutorError;

/// An error of [`estimate`](super::estimate).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportanceError {
    #[error("image {image}: {global} global of {views} views; at least one global view and one other are needed")]
    Views { image: usize, views: usize, global: usize },
    #[error("image {image}: {found} values in {views} views, expected {expected}")]
    Pixels { image: usize, views: usize, expected: usize, found: usize },
    #[error("near image {image}: the loss or a gradient is not a finite number")]
    NotFinite { image: usize },
    #[error("importance needs at least one image")]
    NoImages,
    #[error("interrupted after {images} images")]
    Interrupted { images: usize },
    #[error("near image {image}: the model failed")]
    Executor { image: usize, source: ExecutorError },
    /// The producer of the views failed.
    #[error("image {image}: no views")]
    Source { image: usize, source: Box<dyn std::error::Error + Send + Sync> },
}
