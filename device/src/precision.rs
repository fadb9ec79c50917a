//! The numbers that an inference computes with.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The numbers that an inference computes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floating point.
    #[default]
    F32,
    /// 16-bit floating point with sums in 32 bits, which GPUs alone compute with.
    #[cfg_attr(feature = "cli", value(skip))]
    F16,
    /// Eight-bit integers.
    Int8,
}

impl Precision {
    pub(crate) fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        })
    }
}
