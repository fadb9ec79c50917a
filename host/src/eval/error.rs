//! Why an evaluation failed, and what the user can do about it.

use std::io;
use std::path::PathBuf;

use headroom_device::bundle::BundleError;
use headroom_device::engine::EngineError;
use headroom_device::images::{PreprocessError, SearchError};
use headroom_device::integer::IntegerEngineError;

use crate::executor::{DeviceError, ExecutorError};

/// Why an evaluation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    #[error("cannot open the bundle `{}`", path.display())]
    Bundle { path: PathBuf, source: BundleError },
    #[error("there is no rung {found}: the ladder has rungs 0 to {last}")]
    NoSuchRung { found: usize, last: usize },
    #[error("the images cannot be searched")]
    Search(#[from] SearchError),
    #[error("`{}` holds no readable image", path.display())]
    NoImages { path: PathBuf },
    #[error("`{}` is in no class: expected a sub-folder of `{}` for each class", file.display(), folder.display())]
    NoClass { file: PathBuf, folder: PathBuf },
    #[error("the images cannot be preprocessed")]
    Preprocess(#[from] PreprocessError),
    #[error("the model cannot be run")]
    Engine(#[from] EngineError),
    #[error("the bundle `{}` has no `model.int8`", path.display())]
    NoIntegerModel { path: PathBuf },
    #[error("the integer model of `{}` holds none of the rungs to judge", path.display())]
    NoRungInIntegers { path: PathBuf, source: IntegerEngineError },
    #[error("the model cannot be run in int8")]
    IntegerEngine(#[from] IntegerEngineError),
    #[error("the device cannot be used")]
    Device(#[from] DeviceError),
    #[error("int8 is computed on the CPU alone")]
    IntegersOnGpu,
    #[error("one image needs {needed} bytes on the GPU, which has {free} free")]
    DeviceMemory { needed: u64, free: u64 },
    #[error("the model cannot be run on the GPU")]
    Executor(#[from] ExecutorError),
    #[error("rung {rung} on the GPU gave values that are not finite")]
    NotFinite { rung: usize, half: bool },
    #[error("a thread that served a GPU ended early")]
    Thread,
    #[error("the linear probe cannot be fitted: {reason}")]
    Probe { reason: String },
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the chart cannot be drawn")]
    Chart(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the features cannot be written")]
    Features(#[source] safetensors::SafeTensorError),
    #[error("interrupted after {images} images")]
    Interrupted { images: usize },
}

impl EvalError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bundle { source: BundleError::NotABundle { .. }, .. } => {
                Some("make a bundle with `host-prune --target BOARD --out DIR`".into())
            }
            Self::Device(error) => Some(error.hint()),
            Self::IntegersOnGpu => Some("leave --device away".into()),
            Self::DeviceMemory { .. } => Some("compute with `--device cpu`".into()),
            Self::NotFinite { half: true, .. } => {
                Some("`--gpu-precision f32` computes with the range and the digits of f32".into())
            }
            Self::NotFinite { half: false, .. } => {
                Some("`--device cpu` computes the same, and tells whether the GPU is at fault".into())
            }
            Self::NoClass { .. } => Some("put the images of each class in a sub-folder named after it".into()),
            Self::NoIntegerModel { .. } => Some("make the bundle with `host-prune --precision int8`".into()),
            Self::NoRungInIntegers { .. } => {
                Some("smaller rungs, with larger numbers, may be there: see --rungs".into())
            }
            _ => None,
        }
    }
}
