//! Which processor computes: what `--device` takes.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

/// A request for a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first NVIDIA GPU if this build can use one and there is one, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// The NVIDIA GPU of that index.
    Cuda(usize),
}

/// A processor cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    #[error("unknown device `{found}`, expected auto, cpu, cuda or cuda:N")]
    Unknown { found: String },
    #[error(
        "this build has no CUDA support; rebuild with `cargo build --release --features cuda -p headroom-host` \
         (needs the CUDA toolkit)"
    )]
    NotBuilt,
    #[error("GPU {index} cannot be used")]
    Gpu { index: usize, source: candle_core::Error },
}

impl FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) if !index.starts_with('+') => {
                index.parse().map(Self::Cuda).map_err(|_| DeviceError::Unknown { found: text.to_owned() })
            }
            _ => Err(DeviceError::Unknown { found: text.to_owned() }),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(index) => write!(formatter, "cuda:{index}"),
        }
    }
}

impl DeviceChoice {
    /// The candle device that this means here.
    ///
    /// # Errors
    /// If a GPU is asked for by name and cannot be had. [`DeviceChoice::Auto`] never fails.
    pub fn resolve(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(_) if !cfg!(feature = "cuda") => Err(DeviceError::NotBuilt),
            Self::Cuda(index) => Device::new_cuda(index).map_err(|source| DeviceError::Gpu { index, source }),
            Self::Auto if !cfg!(feature = "cuda") => Ok(Device::Cpu),
            Self::Auto => Ok(Device::new_cuda(0).unwrap_or(Device::Cpu)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_they_are_written() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda:0", DeviceChoice::Cuda(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap(), choice);
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!("cuda".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(0));
        for text in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "cpu:0", "CUDA"] {
            let error = text.parse::<DeviceChoice>().unwrap_err();
            assert_eq!(error.to_string(), format!("unknown device `{text}`, expected auto, cpu, cuda or cuda:N"));
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_the_feature_a_gpu_is_refused_with_the_build_command() {
        let error = DeviceChoice::Cuda(0).resolve().unwrap_err().to_string();
        assert!(error.contains("cargo build --release --features cuda -p headroom-host"), "{error}");
        assert!(DeviceChoice::Auto.resolve().unwrap().is_cpu());
    }
}
