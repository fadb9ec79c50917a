//! Why the GPU engine fails.

use cudarc::cublas::result::CublasError;
use cudarc::driver::DriverError;
use cudarc::nvrtc::CompileError;

use super::plan::Stage;
use super::unsupported::Unsupported;

/// Why a model cannot run on a GPU, or an inference failed there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    #[error("the {what} (`lib{library}`) is not on this machine")]
    NoLibrary { what: &'static str, library: &'static str },
    #[error("there is no NVIDIA GPU {ordinal}: this machine has {count}")]
    NoDevice { ordinal: usize, count: usize },
    /// Versions are CUDA's: 12020 is 12.2.
    #[error("the driver runs CUDA {}, which is older than the {} that {what} needs", version(*driver), version(*needed))]
    DriverTooOld { what: &'static str, driver: i32, needed: i32 },
    #[error("{device} has {free} MB of memory free, and the model needs {needed} MB")]
    MemoryTooSmall { device: String, free: usize, needed: usize },
    #[error("cannot compile the kernel `{kernel}` for this GPU")]
    Compile { kernel: &'static str, source: CompileError },
    #[error("the GPU failed while {doing}")]
    Driver { doing: &'static str, source: DriverError },
    #[error("a matrix product failed on the GPU")]
    Product { source: CublasError },
    /// Values in f16 that the CPU engine has in f32.
    #[error("{stage} gave values on the GPU that are not finite")]
    NotFinite { stage: Stage },
    #[error("the GPU engine was made for {expected} {what}, not for {found}")]
    Size { what: &'static str, expected: usize, found: usize },
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
}

impl CudaError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoLibrary { .. } => Some(
                "install NVIDIA's driver and CUDA 12 (NVRTC, cuBLAS), or run with `--device auto` or `--device cpu`",
            ),
            Self::DriverTooOld { .. } => Some("update the driver, or install the CUDA libraries that belong to it"),
            Self::MemoryTooSmall { .. } | Self::NoDevice { .. } | Self::Unsupported(_) => {
                Some("`--device cpu` runs the model on the processor")
            }
            Self::NotFinite { .. } => Some("`--device cpu` computes in f32"),
            _ => None,
        }
    }
}

pub(super) fn version(cuda: i32) -> String {
    format!("{}.{}", cuda / 1000, cuda % 1000 / 10)
}

/// Names what was done when the driver failed.
pub(super) fn driver(doing: &'static str) -> impl FnOnce(DriverError) -> CudaError {
    move |source| CudaError::Driver { doing, source }
}
