//! Which processors compute, and in which type of numbers: what `--device` and `--gpu-precision` take.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};
use headroom_device::model::{Description, Weights};
use headroom_device::run::DeviceChoice as OneDevice;
use serde::Serialize;

use super::error::ExecutorError;
use super::model::CandleVit;

/// The processors that the user wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first NVIDIA GPU where this build can use one and there is one, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// The NVIDIA GPUs of these indices, which differ.
    Cuda(Vec<usize>),
    /// Every NVIDIA GPU of the machine.
    AllCuda,
}

/// The text names no processors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown device `{found}`, expected auto, cpu, cuda, cuda:N, several as cuda:N,M, or cuda:all")]
pub struct UnknownDevices {
    pub found: String,
}

impl FromStr for DeviceChoice {
    type Err = UnknownDevices;

    fn from_str(text: &str) -> Result<Self, UnknownDevices> {
        let unknown = || UnknownDevices { found: text.to_owned() };
        match text.split_once(':') {
            None => text.parse::<OneDevice>().map(Self::from).map_err(|_| unknown()),
            Some(("cuda", "all")) => Ok(Self::AllCuda),
            Some(("cuda", list)) => {
                let index = |text: &str| text.parse().ok().filter(|_| !text.starts_with('+'));
                let indices: Vec<usize> = list.split(',').map(index).collect::<Option<_>>().ok_or_else(unknown)?;
                let twice = indices.iter().enumerate().any(|(place, index)| indices[..place].contains(index));
                if twice { Err(unknown()) } else { Ok(Self::Cuda(indices)) }
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(indices) => {
                let indices: Vec<String> = indices.iter().map(usize::to_string).collect();
                write!(formatter, "cuda:{}", indices.join(","))
            }
            Self::AllCuda => formatter.write_str("cuda:all"),
        }
    }
}

impl From<OneDevice> for DeviceChoice {
    fn from(choice: OneDevice) -> Self {
        match choice {
            OneDevice::Auto => Self::Auto,
            OneDevice::Cpu => Self::Cpu,
            OneDevice::Cuda(index) => Self::Cuda(vec![index]),
        }
    }
}

/// In what a GPU holds weights and activations. Sums over tokens, images and gradients, softmax and norms are in f32
/// always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum GpuPrecision {
    #[default]
    F32,
    /// The range of f32, two to three digits; GPUs of compute capability 8.0 or more.
    Bf16,
    /// Three digits, but nothing above 65,504, and small gradients become zero.
    F16,
}

impl GpuPrecision {
    /// Candle's name for it.
    #[must_use]
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

/// A processor cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    #[error("this build has no CUDA support")]
    NotBuilt,
    #[error("GPU {index} cannot be used")]
    Gpu { index: usize, source: candle_core::Error },
    #[error("NVIDIA's driver does not tell how many GPUs there are")]
    Driver(#[source] candle_core::Error),
    #[error("there is no GPU to use")]
    NoGpu,
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
            Self::Gpu { .. } | Self::Driver(_) | Self::NoGpu => {
                "`nvidia-smi` lists the GPUs that the driver sees; `--device cpu` needs none"
            }
        }
        .into()
    }
}

/// The processors that a choice means here.
///
/// With GPUs sub-networks are judged by candle there, without by the device's engine. A test may call the CPU a GPU, to
/// run what a GPU would.
#[derive(Clone, Debug)]
pub struct ChosenDevices {
    /// At least one.
    pub devices: Vec<Device>,
    /// The GPUs' numbers, where they are some.
    pub gpus: Vec<usize>,
    /// In what GPUs compute.
    pub precision: GpuPrecision,
    /// What [`DeviceChoice::Auto`] took and why, and what of the user's choice does not hold there.
    pub reason: Option<String>,
}

impl ChosenDevices {
    /// The CPU, which computes in f32.
    #[must_use]
    pub fn cpu() -> Self {
        Self { devices: vec![Device::Cpu], gpus: Vec::new(), precision: GpuPrecision::F32, reason: None }
    }

    fn gpus(indices: &[usize]) -> Result<Self, DeviceError> {
        let open = |&index: &usize| open_gpu(index).map_err(|source| DeviceError::Gpu { index, source });
        let devices = indices.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        if devices.is_empty() {
            Err(DeviceError::NoGpu)
        } else {
            Ok(Self { devices, gpus: indices.to_vec(), ..Self::cpu() })
        }
    }

    /// The same processors, where GPUs compute in that; the CPU says that it does not.
    #[must_use]
    pub fn in_precision(self, precision: GpuPrecision) -> Self {
        let ignored = self.gpus.is_empty() && precision != GpuPrecision::F32;
        let note = ignored.then(|| "--gpu-precision is ignored: the CPU computes in f32".to_owned());
        let notes: Vec<String> = self.reason.into_iter().chain(note).collect();
        Self { precision, reason: (!notes.is_empty()).then(|| notes.join("; ")), ..self }
    }

    /// As `--device` names them.
    #[must_use]
    pub fn name(&self) -> String {
        if self.gpus.is_empty() { DeviceChoice::Cpu } else { DeviceChoice::Cuda(self.gpus.clone()) }.to_string()
    }

    /// The first of them, for what is not shared.
    #[must_use]
    pub fn first(&self) -> &Device {
        &self.devices[0]
    }

    /// In what they compute.
    #[must_use]
    pub fn dtype(&self) -> DType {
        if self.gpus.is_empty() { DType::F32 } else { self.precision.dtype() }
    }

    /// The model on every one of them.
    ///
    /// # Errors
    /// As [`CandleVit::load`].
    pub fn load(&self, description: &Description, weights: &Weights) -> Result<Vec<CandleVit>, ExecutorError> {
        self.devices.iter().map(|device| CandleVit::load(description, weights, device, self.dtype())).collect()
    }
}

/// Chooses the processors.
///
/// # Errors
/// If a GPU is asked for by name and cannot be had. [`DeviceChoice::Auto`] never fails.
pub fn choose(choice: &DeviceChoice) -> Result<ChosenDevices, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(ChosenDevices::cpu()),
        DeviceChoice::Cuda(_) | DeviceChoice::AllCuda if !cfg!(feature = "cuda") => Err(DeviceError::NotBuilt),
        DeviceChoice::Cuda(indices) => ChosenDevices::gpus(indices),
        DeviceChoice::AllCuda => ChosenDevices::gpus(&(0..gpus_here()?).collect::<Vec<_>>()),
        DeviceChoice::Auto => {
            let on_cpu = |why: &dyn fmt::Display| ChosenDevices {
                reason: Some(format!("computing on the CPU: {why}")),
                ..ChosenDevices::cpu()
            };
            if !cfg!(feature = "cuda") {
                return Ok(on_cpu(&DeviceError::NotBuilt));
            }
            Ok(match ChosenDevices::gpus(&[0]) {
                Ok(chosen) => ChosenDevices { reason: Some("computing on GPU 0, which can be used".into()), ..chosen },
                Err(error) => on_cpu(&headroom_device::error_text::with_causes(&error)),
            })
        }
    }
}

#[cfg(feature = "cuda")]
use super::gpu::open as open_gpu;

/// Refuses: without the feature there is no GPU.
#[cfg(not(feature = "cuda"))]
fn open_gpu(index: usize) -> candle_core::Result<Device> {
    Device::new_cuda(index)
}

/// How many GPUs the driver sees.
fn gpus_here() -> Result<usize, DeviceError> {
    #[cfg(feature = "cuda")]
    {
        use candle_core::cuda_backend::WrapErr;
        use candle_core::cuda_backend::cudarc::driver::{CudaContext, sys::CUresult};
        match CudaContext::device_count() {
            Ok(count) => Ok(usize::try_from(count).unwrap_or(0)),
            Err(error) if error.0 == CUresult::CUDA_ERROR_NO_DEVICE => Ok(0),
            error => error.w().map_err(DeviceError::Driver).map(|_| 0),
        }
    }
    #[cfg(not(feature = "cuda"))]
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_they_are_written() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda:3", DeviceChoice::Cuda(vec![3])),
            ("cuda:1,0", DeviceChoice::Cuda(vec![1, 0])),
            ("cuda:all", DeviceChoice::AllCuda),
        ] {
            assert_eq!(text.parse(), Ok(choice.clone()));
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(vec![0])));
        for text in ["", "gpu", "cuda:", "cuda:x", "cuda:0,", "cuda:0,0", "cuda:+1", "cpu:0", "CUDA"] {
            let error = text.parse::<DeviceChoice>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("unknown device `{text}`, expected auto")), "{error}");
        }
    }

    #[test]
    fn the_cpu_is_there_without_a_word() {
        let chosen = choose(&DeviceChoice::Cpu).unwrap();
        assert!(chosen.first().is_cpu() && chosen.gpus.is_empty() && chosen.reason.is_none());
        let chosen = chosen.in_precision(GpuPrecision::F16);
        assert_eq!(chosen.dtype(), DType::F32, "half types are for GPUs");
        assert!(chosen.reason.unwrap().contains("--gpu-precision is ignored"));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_the_feature_a_gpu_is_refused_with_the_build_command() {
        for choice in [DeviceChoice::Cuda(vec![0]), DeviceChoice::AllCuda] {
            let error = choose(&choice).unwrap_err();
            assert_eq!(error.to_string(), "this build has no CUDA support");
            assert!(
                error.hint().contains("cargo build --release -p headroom-host --features cuda"),
                "{}",
                error.hint()
            );
        }
        let chosen = choose(&DeviceChoice::Auto).unwrap();
        assert!(chosen.first().is_cpu());
        assert_eq!(chosen.reason.as_deref(), Some("computing on the CPU: this build has no CUDA support"));
    }
}
