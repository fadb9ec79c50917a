//! Why a check could not be made, and what the user can do about it.

use std::io;
use std::path::PathBuf;

use headroom_device::bundle::BundleError;
use headroom_device::engine::EngineError;

use crate::prune::PruneError;

/// Why a check could not be made. A rung that disagrees is a result, not one of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    #[error("the demo model cannot be pruned")]
    Prune(#[from] Box<PruneError>),
    #[error("cannot open the bundle `{}`", path.display())]
    Bundle { path: PathBuf, source: BundleError },
    #[error("the CPU engine cannot run the model")]
    Engine(#[from] EngineError),
    #[error("this program was built without the GPU engine")]
    NoCuda,
    #[cfg(feature = "device-cuda")]
    #[error("the GPU cannot run the model")]
    Cuda(#[from] headroom_device::cuda::CudaError),
    #[error("no temporary folder can be made")]
    Temporary(#[source] io::Error),
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl CheckError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Prune(error) => error.hint(),
            Self::Bundle { source, .. } => source.hint(),
            Self::NoCuda => {
                Some("build it with `cargo build --release -p headroom-host --features device-cuda`".into())
            }
            #[cfg(feature = "device-cuda")]
            Self::Cuda(error) => error.hint().map(Into::into),
            _ => None,
        }
    }
}
