//! Which processor computes: what `--device` takes.

use candle_core::Device;
use headroom_device::run::DeviceChoice;

/// A processor cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    #[error("this build has no CUDA support")]
    NotBuilt,
    #[error("GPU {index} cannot be used")]
    Gpu { index: usize, source: candle_core::Error },
}

impl DeviceError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NotBuilt => {
                "build with `cargo build --release -p headroom-host --features cuda`, which needs the \
                               CUDA toolkit, or compute with `--device cpu`"
            }
            Self::Gpu { .. } => "`nvidia-smi` lists the GPUs that the driver sees; `--device cpu` needs none",
        }
        .into()
    }
}

/// The processor that a choice means here.
#[derive(Clone, Debug)]
pub struct ChosenDevice {
    pub device: Device,
    /// The GPU's number, where it is one.
    pub gpu: Option<usize>,
    /// What [`DeviceChoice::Auto`] took and why; `None` where the user chose.
    pub reason: Option<String>,
}

impl ChosenDevice {
    fn cpu(reason: Option<String>) -> Self {
        Self { device: Device::Cpu, gpu: None, reason }
    }

    fn gpu(index: usize) -> Result<Self, candle_core::Error> {
        Ok(Self { device: Device::new_cuda(index)?, gpu: Some(index), reason: None })
    }
}

/// Chooses the processor.
///
/// # Errors
/// If a GPU is asked for by name and cannot be had. [`DeviceChoice::Auto`] never fails.
pub fn choose(choice: DeviceChoice) -> Result<ChosenDevice, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(ChosenDevice::cpu(None)),
        DeviceChoice::Cuda(_) if !cfg!(feature = "cuda") => Err(DeviceError::NotBuilt),
        DeviceChoice::Cuda(index) => ChosenDevice::gpu(index).map_err(|source| DeviceError::Gpu { index, source }),
        DeviceChoice::Auto if !cfg!(feature = "cuda") => {
            Ok(ChosenDevice::cpu(Some(format!("computing on the CPU: {}", DeviceError::NotBuilt))))
        }
        DeviceChoice::Auto => Ok(match ChosenDevice::gpu(0) {
            Ok(chosen) => ChosenDevice { reason: Some("computing on GPU 0, which can be used".into()), ..chosen },
            Err(error) => ChosenDevice::cpu(Some(format!("computing on the CPU: GPU 0 cannot be used: {error}"))),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_there_without_a_word() {
        let chosen = choose(DeviceChoice::Cpu).unwrap();
        assert!(chosen.device.is_cpu() && chosen.gpu.is_none() && chosen.reason.is_none());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_the_feature_a_gpu_is_refused_with_the_build_command() {
        let error = choose(DeviceChoice::Cuda(0)).unwrap_err();
        assert_eq!(error.to_string(), "this build has no CUDA support");
        assert!(error.hint().contains("cargo build --release -p headroom-host --features cuda"), "{}", error.hint());
        let chosen = choose(DeviceChoice::Auto).unwrap();
        assert!(chosen.device.is_cpu());
        assert_eq!(chosen.reason.as_deref(), Some("computing on the CPU: this build has no CUDA support"));
    }
}
