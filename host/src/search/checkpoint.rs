//! The file from which an interrupted fit goes on.
//!
//! Two lines of JSON: a header with `format`, `version` and the SHA-256 of the
//! second line; then the fingerprint of the inputs and the state. The file is
//! written beside its place, flushed to the disk and renamed, so that at any
//! moment it is whole: the old one or the new one.

use std::fs;
use std::io;
use std::path::PathBuf;

use headroom_device::bundle::manifest::sha256_hex;
use headroom_device::whole_file;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::search::Difference;
use crate::search::fingerprint::Fingerprint;

const FORMAT: &str = "headroom-fit";

/// Raised when the content, or the course of a fit from the same content, changes.
const VERSION: u32 = 3;

/// Where a fit keeps its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointFile {
    /// The file; its folder must exist. It is overwritten after every evaluation.
    pub path: PathBuf,
    /// Go on from the file where there is one; otherwise start afresh.
    pub resume: bool,
}

/// Why a checkpoint cannot be read, used or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("cannot read the checkpoint {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The file cannot be written.
    #[error("cannot write the checkpoint {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The file does not begin with the header of a checkpoint.
    #[error("{} is not a checkpoint of a fit", path.display())]
    NotACheckpoint { path: PathBuf },
    /// The file is of another version.
    #[error("the checkpoint {} has version {found}, this program reads {readable}", path.display())]
    Version { path: PathBuf, found: u32, readable: u32 },
    /// The content is not the one that the header was written for.
    #[error("the checkpoint {} is damaged", path.display())]
    Damaged { path: PathBuf },
    /// The file belongs to another fit.
    #[error("the checkpoint {} is of another fit; {}", path.display(), list(differences))]
    Foreign { path: PathBuf, differences: Vec<Difference> },
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    version: u32,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Content<S> {
    fingerprint: Fingerprint,
    state: S,
}

impl CheckpointFile {
    /// The state of the fit with this fingerprint; `None` to start afresh.
    pub(super) fn load<S: DeserializeOwned>(&self, run: &Fingerprint) -> Result<Option<S>, CheckpointError> {
        let path = self.path.clone();
        let bytes = match fs::read(&path) {
            _ if !self.resume => return Ok(None),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CheckpointError::Read { path, source }),
        };
        let header_end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let (header, content) = bytes.split_at(header_end);
        let header: Header = match serde_json::from_slice(header) {
            Ok(Header { format, .. }) if format != FORMAT => return Err(CheckpointError::NotACheckpoint { path }),
            Ok(header) => header,
            Err(_) => return Err(CheckpointError::NotACheckpoint { path }),
        };
        if header.version != VERSION {
            return Err(CheckpointError::Version { path, found: header.version, readable: VERSION });
        }
        if sha256_hex(content) != header.sha256 {
            return Err(CheckpointError::Damaged { path });
        }
        let Ok(content) = serde_json::from_slice::<Content<S>>(content) else {
            return Err(CheckpointError::Damaged { path });
        };
        let differences = content.fingerprint.differences(run);
        if differences.is_empty() {
            Ok(Some(content.state))
        } else {
            Err(CheckpointError::Foreign { path, differences })
        }
    }

    /// Replaces the file.
    pub(super) fn save<S: Serialize>(&self, run: &Fingerprint, state: &S) -> Result<(), CheckpointError> {
        let write = || -> io::Result<()> {
            let mut content = vec![b'\n'];
            serde_json::to_writer(&mut content, &Content { fingerprint: run.clone(), state })?;
            let header = Header { format: FORMAT.to_owned(), version: VERSION, sha256: sha256_hex(&content) };
            let mut file = serde_json::to_vec(&header)?;
            file.extend(content);
            whole_file::write(&self.path, &file)
        };
        write().map_err(|source| CheckpointError::Write { path: self.path.clone(), source })
    }
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(Difference::to_string).collect::<Vec<String>>().join("; ")
}

#[cfg(test)]
mod tests;
