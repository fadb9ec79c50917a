//! Why a check could not be made, and what the user can do about it.

use std::io;
use std::path::PathBuf;

use headroom_device::bundle::BundleError;
use headroom_device::engine::EngineError;
use headroom_device::model::weights::WeightsError;

use crate::checkpoint::CheckpointError;
use crate::executor::{DeviceError, ExecutorError};
use crate::prune::PruneError;
use crate::shape::ModelShapeError;

/// Why a check could not be made. What disagrees is a result, not one of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    #[error("the device cannot be used")]
    Device(#[from] DeviceError),
    #[error("cannot read the reference `{}`", path.display())]
    Reference { path: PathBuf, source: WeightsError },
    #[error("the reference `{}` has no images of the model's size", path.display())]
    NoPixels { path: PathBuf },
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the model cannot be used")]
    Checkpoint(#[from] CheckpointError),
    #[error("the model cannot be made elastic")]
    Shape(#[from] ModelShapeError),
    #[error("the model cannot be pruned")]
    Prune(#[source] Box<PruneError>),
    #[error("cannot open the bundle that was just made")]
    Bundle(#[from] BundleError),
    #[error("the CPU engine cannot run the model")]
    Engine(#[from] EngineError),
    #[error("candle cannot run the model")]
    Executor(#[from] ExecutorError),
    #[cfg(feature = "cuda")]
    #[error("the GPU engine cannot run the model")]
    Cuda(#[from] headroom_device::cuda::CudaError),
    #[error("no temporary folder can be made")]
    Temporary(#[source] io::Error),
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("interrupted")]
    Interrupted,
}

impl CheckError {
    /// Whether the user stopped the check.
    #[must_use]
    pub fn is_interruption(&self) -> bool {
        match self {
            Self::Interrupted => true,
            Self::Prune(error) => error.is_interruption(),
            _ => false,
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Device(error) => Some(error.hint()),
            Self::Checkpoint(error) => error.hint(),
            Self::Prune(error) => error.hint(),
            Self::Bundle(error) => error.hint(),
            #[cfg(feature = "cuda")]
            Self::Cuda(error) => error.hint().map(Into::into),
            _ => None,
        }
    }
}

impl From<candle_core::Error> for CheckError {
    fn from(error: candle_core::Error) -> Self {
        Self::Executor(error.into())
    }
}
