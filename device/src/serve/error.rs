//! Why `device-run --serve` ends with a failure.

use std::io;
use std::path::PathBuf;

use super::companion::PortError;
use crate::bundle::BundleError;
use crate::images::SearchError;
use crate::limits_file::LimitsFileError;
use crate::metrics::MetricsError;
use crate::run::NoImages;
use crate::runtime::RuntimeError;

/// Why serving failed, or was not begun.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The bundle is refused.
    #[error("cannot open the bundle `{path}`")]
    Bundle { path: PathBuf, source: BundleError },
    /// The limits file is refused.
    #[error(transparent)]
    Limits(#[from] LimitsFileError),
    /// The limits file limits the energy of an inference, which nobody has measured.
    #[error("there is a limit on energy, and what an inference takes on this machine is not known")]
    UnknownEnergy,
    /// The bundle cannot serve within the limits.
    #[error("cannot serve")]
    Runtime(#[from] RuntimeError),
    /// There is no socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// What was named as the supervisor's port is none.
    #[error(transparent)]
    Supervisor(#[from] PortError),
    /// There are no metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals { source: io::Error },
    /// The system gives no thread.
    #[error("cannot start a thread")]
    Thread { source: io::Error },
    /// The input cannot be searched for images.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// The input holds no readable image.
    #[error(transparent)]
    NoImages(#[from] NoImages),
    /// Frames cannot be read.
    #[error("cannot read frame {frame} from stdin")]
    Read { frame: u64, source: io::Error },
    /// The stream ended inside a frame. All frames before it were answered.
    #[error("stdin ended inside frame {frame}: {found} of {expected} bytes")]
    HalfFrame { frame: u64, expected: usize, found: usize },
    /// Results cannot be written.
    #[error("cannot write the results")]
    Write { source: io::Error },
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// Another process serves there.
    #[error("another device-run serves on `{path}`")]
    InUse { path: PathBuf },
    /// There is something else, which is not taken away.
    #[error("`{path}` is there and is no socket")]
    NotASocket { path: PathBuf },
    /// The system refuses.
    #[error("cannot {what} `{path}`")]
    System { what: &'static str, path: PathBuf, source: io::Error },
}

impl ServeError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bundle { source, .. } => source.hint(),
            Self::UnknownEnergy => Some("`device-run --calibrate` measures it, where power can be measured".into()),
            Self::Socket(SocketError::InUse { .. }) => Some("stop it, or name another --socket".into()),
            Self::HalfFrame { .. } => Some("does --stdin-rgb name the size that the frames have?".into()),
            _ => None,
        }
    }
}
