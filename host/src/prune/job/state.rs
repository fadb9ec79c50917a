//! What a job keeps beside its bundle to go on after an interruption.

use std::path::{Path, PathBuf};

use super::super::{Options, PruneError};
use crate::search::CheckpointFile;

/// The folder beside the bundle in which a job keeps what it needs to go on
/// after an interruption.
pub(super) struct JobState {
    pub(super) folder: PathBuf,
    resume: bool,
}

impl JobState {
    pub(super) fn open(destination: &Path, options: &Options) -> Result<Self, PruneError> {
        let mut name = destination.file_name().unwrap_or_default().to_os_string();
        name.push(".checkpoint");
        let folder = destination.with_file_name(name);
        let occupied = folder.exists();
        if occupied && !options.resume {
            if !options.force {
                return Err(PruneError::Unfinished { folder });
            }
            std::fs::remove_dir_all(&folder).map_err(|source| PruneError::State { folder: folder.clone(), source })?;
        }
        if options.resume && !occupied {
            return Err(PruneError::NothingToResume { folder });
        }
        Ok(Self { folder, resume: options.resume })
    }

    pub(super) fn create(&self) -> Result<(), PruneError> {
        std::fs::create_dir_all(&self.folder)
            .map_err(|source| PruneError::State { folder: self.folder.clone(), source })
    }

    pub(super) fn importance(&self) -> PathBuf {
        self.folder.join("importance.safetensors")
    }

    pub(super) fn search(&self) -> CheckpointFile {
        CheckpointFile { path: self.folder.join("search.json"), resume: self.resume }
    }

    /// A finished job needs no state; what cannot be removed is only clutter.
    pub(super) fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
