//! Which processor computes: what `--device` takes.

use candle_core::Device;
use headroom_device::run::DeviceChoice;

/// A processor cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    #[error(
        "this build has no CUDA support; rebuild with `cargo build --release --features cuda -p headroom-host` \
         (needs the CUDA toolkit)"
    )]
    NotBuilt,
    #[error("GPU {index} cannot be used")]
    Gpu { index: usize, source: candle_core::Error },
}

/// The candle device that a choice means here.
///
/// # Errors
/// If a GPU is asked for by name and cannot be had. [`DeviceChoice::Auto`] never fails: it says why it takes the CPU.
pub fn resolve(choice: DeviceChoice) -> Result<Device, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Cuda(_) if !cfg!(feature = "cuda") => Err(DeviceError::NotBuilt),
        DeviceChoice::Cuda(index) => Device::new_cuda(index).map_err(|source| DeviceError::Gpu { index, source }),
        DeviceChoice::Auto if !cfg!(feature = "cuda") => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(Device::new_cuda(0).unwrap_or_else(|error| {
            anstream::eprintln!("computing on the CPU, because GPU 0 cannot be used: {error}");
            Device::Cpu
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_the_feature_a_gpu_is_refused_with_the_build_command() {
        let error = resolve(DeviceChoice::Cuda(0)).unwrap_err().to_string();
        assert!(error.contains("cargo build --release --features cuda -p headroom-host"), "{error}");
        assert!(resolve(DeviceChoice::Auto).unwrap().is_cpu());
    }
}
