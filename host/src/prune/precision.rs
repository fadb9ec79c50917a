//! In what numbers the device is to compute.

use std::fmt;

use serde::Serialize;

/// In what numbers the device is to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floating point, on the weights as they are stored.
    F32,
    /// Eight-bit integers ([`headroom_device::integer`]), on weights rounded to them ([`crate::quantisation`]).
    Int8,
}

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::Int8 => "int8",
        })
    }
}
