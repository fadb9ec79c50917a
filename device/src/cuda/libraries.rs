//! Whether the driver and the CUDA libraries can be loaded, and fit each other.

use std::sync::Arc;

use cudarc::driver::CudaContext;

use super::error::{CudaError, driver, version};

/// The oldest driver whose functions are called: CUDA 12.2, of JetPack 6.
const OLDEST_DRIVER: i32 = 12020;

/// Opens GPU `ordinal`, once all that the engine calls is there.
pub(super) fn open(ordinal: usize) -> Result<Arc<CudaContext>, CudaError> {
    check_presence()?;
    let driver_version = driver_version()?;
    check_version("Headroom", driver_version, OLDEST_DRIVER)?;
    // A driver translates no PTX of a later version than its own.
    check_version("its NVRTC", driver_version, compiler_version())?;
    let count = CudaContext::device_count().map_err(driver("counting GPUs"))?;
    let count = usize::try_from(count).unwrap_or(0);
    if ordinal >= count {
        return Err(CudaError::NoDevice { ordinal, count });
    }
    CudaContext::new(ordinal).map_err(driver("opening the GPU"))
}

/// The bindings panic where a library is missing, so that must be known before.
#[cfg(not(feature = "cuda-linked"))]
fn check_presence() -> Result<(), CudaError> {
    // SAFETY: loading NVIDIA's libraries, which the machine's owner installed, runs nothing but their initialisers.
    #[expect(unsafe_code, reason = "loading libraries")]
    let present = unsafe {
        [
            ("NVIDIA driver", "cuda", cudarc::driver::sys::is_culib_present()),
            ("compiler of CUDA kernels, NVRTC", "nvrtc", cudarc::nvrtc::sys::is_culib_present()),
            ("CUDA library of matrix products, cuBLAS", "cublas", cudarc::cublas::sys::is_culib_present()),
        ]
    };
    match present.into_iter().find(|(.., present)| !present) {
        Some((what, library, _)) => Err(CudaError::NoLibrary { what, library }),
        None => Ok(()),
    }
}

/// A program that links the libraries has started, so they are there.
#[cfg(feature = "cuda-linked")]
#[expect(clippy::unnecessary_wraps, reason = "like the other one")]
fn check_presence() -> Result<(), CudaError> {
    Ok(())
}

fn check_version(what: &'static str, driver: i32, needed: i32) -> Result<(), CudaError> {
    if driver < needed { Err(CudaError::DriverTooOld { what, driver, needed }) } else { Ok(()) }
}

/// The latest CUDA that the driver runs.
pub(super) fn driver_name() -> Result<String, CudaError> {
    Ok(format!("CUDA {}", version(driver_version()?)))
}

fn driver_version() -> Result<i32, CudaError> {
    let mut version = 0;
    // SAFETY: the driver writes one integer to where the pointer leads.
    #[expect(unsafe_code, reason = "a function of C")]
    let result = unsafe { cudarc::driver::sys::cuDriverGetVersion(&raw mut version) };
    result.result().map_err(driver("telling its version"))?;
    Ok(version)
}

/// Zero where NVRTC does not tell.
fn compiler_version() -> i32 {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: NVRTC writes one integer to where each pointer leads.
    #[expect(unsafe_code, reason = "a function of C")]
    let _ = unsafe { cudarc::nvrtc::sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    major * 1000 + minor * 10
}
