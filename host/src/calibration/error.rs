//! Why calibration images cannot be used.

use std::path::PathBuf;

use headroom_device::images::{ImageError, PreprocessError, SearchError};

/// Why calibration images cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    #[error(transparent)]
    Find(#[from] SearchError),
    #[error("there are no JPEG, PNG or WebP images in `{}`", path.display())]
    NoImages { path: PathBuf },
    #[error("none of the {files} images in `{}` can be read; the first: {first}", path.display())]
    NoneReadable { path: PathBuf, files: usize, first: ImageError },
    #[error("the images cannot be prepared for the model")]
    Preprocess(#[from] PreprocessError),
    #[error("invalid multi-crop settings: {name} is {found}, expected {expected}")]
    InvalidMultiCrop { name: &'static str, found: String, expected: &'static str },
    #[error("cannot start a thread that prepares images")]
    Thread(#[source] std::io::Error),
}
