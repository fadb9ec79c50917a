//! The program `device-run`: inference from a bundle at any rung.

mod arguments;
mod inference;
mod output;
mod sweep;
pub(crate) mod trust;

use std::path::PathBuf;

pub use arguments::{Arguments, MacsBudget};

use crate::budget::NothingFits;
use crate::bundle::trust::TrustError;
use crate::bundle::{Bundle, BundleError};
use crate::engine::EngineError;
use crate::images::{PreprocessError, SearchError, SyntheticFrames};
use crate::model::Description;

/// Why `device-run` failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The bundle is refused.
    #[error("cannot open the bundle `{path}`")]
    Bundle { path: PathBuf, source: BundleError },
    /// The trust policy cannot be used, or its minimum cannot be raised.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The minimum was to be raised where no policy has one.
    #[error("there is no trust policy whose minimum release could be raised")]
    NoPolicy,
    /// There is no such rung.
    #[error("there is no rung {found}: the ladder has rungs 0 to {last}")]
    NoSuchRung { found: usize, last: usize },
    /// No rung is small enough.
    #[error(transparent)]
    NothingFits(#[from] NothingFits),
    /// The input holds no readable image.
    #[error("`{path}` holds no readable image")]
    NoImages { path: PathBuf },
    /// The input cannot be searched for images.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// An image cannot be made the model's input.
    #[error("cannot preprocess the images")]
    Preprocess(#[from] PreprocessError),
    /// Classes were asked for, and the model has no classifier.
    #[error("the model has no classifier")]
    NoClassifier,
    /// The engine refuses the input.
    #[error("inference failed")]
    Engine(#[from] EngineError),
    /// Results cannot be written.
    #[error("cannot write the results")]
    Write(#[from] std::io::Error),
}

impl RunError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bundle { source: BundleError::NotABundle { .. }, .. } => {
                Some("make a bundle with `host-prune --target BOARD --out DIR`".into())
            }
            Self::Bundle { source: BundleError::PartChanged { .. } | BundleError::ManifestChanged { .. }, .. } => {
                Some("copy the bundle again; a bundle must not be edited".into())
            }
            Self::Bundle { source: BundleError::Trust(error), .. } | Self::Trust(error) => error.hint(),
            Self::NoPolicy => Some("name the policy with --trust FILE".into()),
            Self::NoClassifier => Some("leave --top-k away to get embeddings".into()),
            Self::NothingFits(_) => Some("`device-run --sweep` lists all rungs".into()),
            _ => None,
        }
    }
}

/// Runs the program.
///
/// # Errors
/// See [`RunError`].
pub fn run(arguments: &Arguments) -> Result<(), RunError> {
    let trust = trust::policy(arguments)?;
    let bundle = Bundle::open_with(&arguments.bundle, trust.as_ref())
        .map_err(|source| RunError::Bundle { path: arguments.bundle.clone(), source })?;
    trust::warn_of_unsigned(trust.as_ref(), &bundle);
    if arguments.sweep {
        sweep::run(&bundle, arguments.repetitions, arguments.json)?;
    } else {
        inference::run(&bundle, arguments)?;
    }
    trust::raise_minimum(arguments, trust.as_ref(), &bundle)
}

/// A made-up video of the model's input size.
fn synthetic_frames(description: &Description) -> SyntheticFrames {
    // Sides beyond 32 bits are refused with the bundle's description.
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
    SyntheticFrames::new(0, side(description.image.height), side(description.image.width))
}
