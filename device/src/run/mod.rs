//! The program `device-run`: inference from a bundle at any rung.

mod arguments;
mod calibrate;
mod device;
pub(crate) mod engine;
pub(crate) mod image_files;
mod inference;
pub(crate) mod output;
mod predict;
mod probe;
mod sweep;
pub(crate) mod trust;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use crate::precision::Precision;
pub use arguments::{Arguments, MacsBudget};
pub use device::{DeviceChoice, UnknownDevice};
pub use image_files::NoImages;

use crate::budget::NothingFits;
use crate::bundle::trust::TrustError;
use crate::bundle::{Bundle, BundleError};
use crate::images::{PreprocessError, SearchError, SyntheticFrames};
use crate::measured_profile::{Execution, Found, MeasuredProfileError, OtherLadder, default_path};
use crate::model::Description;
use crate::rung_engine::RungEngineError;
use crate::serve::{self, ServeError};

/// Why `device-run` failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The bundle is refused.
    #[error("cannot open the bundle `{path}`")]
    Bundle { path: PathBuf, source: BundleError },
    /// Nothing but a probe runs without a bundle.
    #[error("no bundle was given")]
    NoBundle,
    /// Where sensors are looked for is no copy of a root folder.
    #[error("`{path}` has no folder `sys`")]
    NoSensorRoot { path: PathBuf },
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
    #[error(transparent)]
    NoImages(#[from] NoImages),
    /// The input cannot be searched for images.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// An image cannot be made the model's input.
    #[error("cannot preprocess the images")]
    Preprocess(#[from] PreprocessError),
    /// Classes were asked for, and the model has no classifier.
    #[error("the model has no classifier")]
    NoClassifier,
    /// The engine refuses the bundle, the rung or the input.
    #[error(transparent)]
    Engine(#[from] RungEngineError),
    /// `model.int8` holds no rung.
    #[error("`model.int8` can run no rung")]
    NoRung,
    /// Serving failed.
    #[error(transparent)]
    Serve(ServeError),
    /// The file of measured profiles is refused.
    #[error(transparent)]
    MeasuredProfile(#[from] MeasuredProfileError),
    /// A measured profile is of another ladder.
    #[error(transparent)]
    OtherLadder(#[from] OtherLadder),
    /// Only what was measured can be interpolated.
    #[error("nothing can be predicted: {found}")]
    NotCalibrated { found: String },
    /// What lies beyond the rungs was not measured.
    #[error("a sub-network of {found} MACs is not on the ladder, which has {smallest} to {dense}")]
    NotOnTheLadder { found: u64, smallest: u64, dense: u64 },
    /// Results cannot be written.
    #[error("cannot write the results")]
    Write(#[from] std::io::Error),
}

impl RunError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bundle { source, .. } => source.hint(),
            Self::Serve(error) => error.hint(),
            Self::NoSensorRoot { .. } => Some("--root takes the folder that holds `sys`, such as `/`".into()),
            Self::Trust(error) => error.hint(),
            Self::NoPolicy => Some("name the policy with --trust FILE".into()),
            Self::MeasuredProfile(
                MeasuredProfileError::Form { .. }
                | MeasuredProfileError::Version { .. }
                | MeasuredProfileError::Content { .. }
                | MeasuredProfileError::TooLarge { .. },
            ) => Some("remove the file of measured profiles and run `device-run --calibrate` again".into()),
            Self::MeasuredProfile(MeasuredProfileError::Write { .. }) => {
                Some("--profile FILE keeps the profile elsewhere".into())
            }
            Self::NotCalibrated { .. } => {
                Some("run `device-run --calibrate` first, with the same --device, --precision and --threads".into())
            }
            Self::Engine(error) => error.hint().map(Into::into),
            Self::NoRung => Some("make the bundle again with `host-prune --precision int8`".into()),
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
    if arguments.probe {
        return probe::run(arguments);
    }
    let path = arguments.bundle.as_deref().ok_or(RunError::NoBundle)?;
    let trust = trust::policy(arguments)?;
    if arguments.serve.serve {
        return serve::run(arguments, path, trust).map_err(|error| match error {
            ServeError::Write { source } => RunError::Write(source),
            other => RunError::Serve(other),
        });
    }
    let bundle =
        trust::open(path, trust.as_ref()).map_err(|source| RunError::Bundle { path: path.to_path_buf(), source })?;
    let bundle = Arc::new(bundle);
    if arguments.calibrate {
        calibrate::run(&engine::complete(bundle.clone(), path, arguments)?, path, arguments)?;
    } else if let Some(budget) = arguments.predict {
        predict::run(&bundle, path, budget, arguments)?;
    } else if arguments.sweep {
        sweep::run(&engine::partial(bundle.clone(), path, arguments)?, path, arguments)?;
    } else {
        inference::run(&bundle, path, arguments)?;
    }
    trust::raise_minimum(arguments, trust.as_ref(), &bundle)
}

impl Arguments {
    /// Where measured profiles of the bundle at `path` are.
    fn profile_path(&self, path: &Path) -> PathBuf {
        self.profile.clone().unwrap_or_else(|| default_path(path))
    }

    /// The measured profile that holds for a bundle on this machine, where inferences run in this way.
    fn found_profile(
        &self,
        bundle: &Bundle,
        path: &Path,
        execution: Execution<'_>,
    ) -> Result<Found, MeasuredProfileError> {
        Found::on_this_machine(&self.profile_path(path), &self.root, execution, bundle.hash())
    }
}

/// A made-up video of the model's input size.
fn synthetic_frames(description: &Description) -> SyntheticFrames {
    // Sides beyond 32 bits are refused with the bundle's description.
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
    SyntheticFrames::new(0, side(description.image.height), side(description.image.width))
}
