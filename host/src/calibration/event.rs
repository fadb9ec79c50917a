//! What happens while calibration images are read.

use std::fmt;
use std::path::PathBuf;

/// Something that the user should know and that stops nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CalibrationEvent {
    /// An image or a folder was left out. Each is reported once.
    Skipped { path: PathBuf, reason: String },
}

impl fmt::Display for CalibrationEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped { path, reason } => write!(formatter, "skipped `{}`: {reason}", path.display()),
        }
    }
}
