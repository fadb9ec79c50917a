//! Why a bundle, a rung or an input cannot be run.

use super::AcceleratorError;
use crate::engine::EngineError;
use crate::integer::IntegerEngineError;
use crate::switch::NoSuchRung;

/// Errors of [`RungEngine`](super::RungEngine).
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RungEngineError {
    /// The bundle has nothing to run in int8.
    #[error("the bundle has no `model.int8`")]
    NoIntegerModel,
    /// The integer model does not hold a rung of the ladder, or cannot run it.
    #[error("`model.int8` cannot run rung {rung}")]
    Rung { rung: usize, source: IntegerEngineError },
    /// The ladder has no such rung.
    #[error(transparent)]
    NoSuchRung(#[from] NoSuchRung),
    /// The pixels are not `[channels, height, width]` of the model's input size.
    #[error("{found} pixel values were given, the model's input has {expected}")]
    Pixels { expected: usize, found: usize },
    /// The workspace is of an engine of another precision.
    #[error("the workspace was made for another precision")]
    Workspace,
    /// The engine in f32 refuses to run.
    #[error(transparent)]
    F32(#[from] EngineError),
    /// The engine in int8 refuses to run.
    #[error(transparent)]
    Int8(#[from] IntegerEngineError),
    /// No engine for the CPU computes in f16.
    #[error("the CPU does not compute in f16")]
    NoHalfPrecision,
    /// An accelerator cannot run the bundle, or failed.
    #[error(transparent)]
    Accelerator(#[from] AcceleratorError),
}

impl RungEngineError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::NoIntegerModel => Some("make the bundle with `host-prune --precision int8`"),
            Self::Rung { .. } => Some("`device-run --sweep --precision int8` lists the rungs that it holds"),
            Self::NoHalfPrecision => Some("run it on a GPU with `--device cuda`"),
            Self::Accelerator(error) => error.hint(),
            _ => None,
        }
    }
}
