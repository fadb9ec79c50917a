//! Writing bundles: all of one or nothing.
//!
//! A [`BundleWriter`] collects the parts in a hidden folder beside the
//! destination; [`BundleWriter::finish`] writes the manifest, flushes every
//! file to the disk and renames the folder into place. Whatever fails before
//! that, a full disk included, leaves the destination as it was.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use headroom_device::bundle::manifest::{
    MANIFEST_FILE, MANIFEST_HASH_FILE, MANIFEST_VERSION, Manifest, Part, hash_file_content, sha256_hex,
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

/// Why a bundle could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleWriteError {
    /// The destination holds a bundle already.
    #[error("`{path}` already holds a bundle")]
    Exists { path: PathBuf },
    /// The destination is something that this program did not write.
    #[error("`{path}` exists and is not a bundle")]
    Occupied { path: PathBuf },
    /// The folder of the destination cannot be written to.
    #[error("cannot create a folder in `{path}`")]
    NotWritable { path: PathBuf, source: io::Error },
    /// A part could not be written.
    #[error("cannot write `{path}`")]
    Write { path: PathBuf, source: io::Error },
    /// The finished folder could not be moved into place.
    #[error("cannot move the finished bundle to `{path}`")]
    Publish { path: PathBuf, source: io::Error },
}

impl BundleWriteError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some("choose another folder with --out, or replace the bundle with --force".into()),
            Self::Occupied { .. } => Some("choose another folder with --out; --force replaces only bundles".into()),
            Self::NotWritable { .. } => Some("choose a folder that you may write to with --out".into()),
            Self::Write { .. } | Self::Publish { .. } => {
                Some("make room for the bundle and go on with --resume: what was computed is kept".into())
            }
        }
    }
}

/// What is known of the job, for the manifest.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// The name of the board profile.
    pub target: String,
    /// What the model was recognised as.
    pub model: String,
    /// The seed of the job.
    pub seed: u64,
    /// How the search ended.
    pub search: String,
}

/// Collects the parts of a bundle beside its destination.
pub struct BundleWriter {
    destination: PathBuf,
    folder: TempDir,
    parts: Vec<Part>,
}

impl BundleWriter {
    /// Starts a bundle that is to become the folder `destination`. Called
    /// before the long work, so that a folder that cannot be written to, or
    /// that holds another bundle, is refused at once.
    ///
    /// # Errors
    /// If `destination` holds a bundle and `force` is not set, or anything
    /// else, or its parent cannot be written to.
    pub fn create(destination: &Path, force: bool) -> Result<Self, BundleWriteError> {
        let path = destination.to_path_buf();
        if destination.join(MANIFEST_FILE).is_file() {
            if !force {
                return Err(BundleWriteError::Exists { path });
            }
        } else if destination.exists() && !is_empty_folder(destination) {
            return Err(BundleWriteError::Occupied { path });
        }
        let parent = parent_of(destination);
        let not_writable = |source| BundleWriteError::NotWritable { path: parent.clone(), source };
        std::fs::create_dir_all(&parent).map_err(not_writable)?;
        let name = destination.file_name().unwrap_or_default().to_string_lossy();
        let folder =
            tempfile::Builder::new().prefix(&format!(".{name}.partial-")).tempdir_in(&parent).map_err(not_writable)?;
        Ok(Self { destination: path, folder, parts: Vec::new() })
    }

    /// The folder that the bundle is to become.
    #[must_use]
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// The hidden folder that the parts are collected in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a part with this content.
    ///
    /// # Errors
    /// If it cannot be written, a full disk included.
    pub fn add(&mut self, name: &str, content: &[u8]) -> Result<(), BundleWriteError> {
        write_part(&self.folder.path().join(name), content)?;
        self.record(name, content.len() as u64, sha256_hex(content));
        Ok(())
    }

    /// Lists a part that the caller wrote and flushed to [`BundleWriter::folder`] itself.
    pub fn record(&mut self, name: &str, size: u64, sha256: String) {
        self.parts.push(Part { name: name.to_owned(), size, sha256 });
    }

    /// Writes the manifest and moves the bundle into place.
    ///
    /// # Errors
    /// If writing or moving fails; an earlier bundle at the destination stays.
    pub fn finish(mut self, provenance: &Provenance) -> Result<Manifest, BundleWriteError> {
        self.parts.sort_by(|a, b| a.name.cmp(&b.name));
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            created_by: concat!("host-prune ", env!("CARGO_PKG_VERSION")).to_owned(),
            target: provenance.target.clone(),
            model: provenance.model.clone(),
            seed: provenance.seed,
            search: provenance.search.clone(),
            parts: std::mem::take(&mut self.parts),
        };
        let mut bytes = serde_json::to_vec_pretty(&manifest).map_err(|error| BundleWriteError::Write {
            path: self.folder.path().join(MANIFEST_FILE),
            source: error.into(),
        })?;
        bytes.push(b'\n');
        write_part(&self.folder.path().join(MANIFEST_FILE), &bytes)?;
        write_part(&self.folder.path().join(MANIFEST_HASH_FILE), hash_file_content(&bytes).as_bytes())?;
        self.publish()?;
        Ok(manifest)
    }

    fn publish(self) -> Result<(), BundleWriteError> {
        let failed = |source| BundleWriteError::Publish { path: self.destination.clone(), source };
        readable_by_others(self.folder.path()).map_err(failed)?;
        sync_folder(self.folder.path()).map_err(failed)?;
        let replaces = self.destination.exists();
        // Exchanging the two folders is one atomic step: at no moment is there no bundle.
        let flags = if replaces { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        renameat_with(CWD, self.folder.path(), CWD, &self.destination, flags).map_err(|error| failed(error.into()))?;
        sync_folder(&parent_of(&self.destination)).map_err(failed)?;
        if !replaces {
            // The folder has moved: there is nothing left to remove.
            let _ = self.folder.keep();
        }
        Ok(())
    }
}

/// The folder that `path` is or will be in.
pub(crate) fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn is_empty_folder(path: &Path) -> bool {
    path.read_dir().is_ok_and(|mut entries| entries.next().is_none())
}

fn write_part(path: &Path, content: &[u8]) -> Result<(), BundleWriteError> {
    write_synced(path, content).map_err(|source| BundleWriteError::Write { path: path.to_path_buf(), source })
}

/// Writes a new file and flushes it to the disk.
pub(crate) fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Flushes the names in a folder to the disk.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Temporary folders are private; a finished bundle is an ordinary folder.
pub(crate) fn readable_by_others(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provenance() -> Provenance {
        Provenance { target: "a".into(), model: "b".into(), seed: 1, search: "c".into() }
    }

    #[test]
    fn an_abandoned_bundle_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let mut writer = BundleWriter::create(&home.path().join("bundle"), false).unwrap();
        writer.add("part", b"content").unwrap();
        drop(writer);
        assert!(is_empty_folder(home.path()));
    }

    #[test]
    fn a_finished_bundle_is_listed_and_is_replaced_only_by_force() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("nested").join("bundle");
        let mut writer = BundleWriter::create(&out, false).unwrap();
        writer.add("part", b"old").unwrap();
        writer.finish(&provenance()).unwrap();
        assert!(matches!(BundleWriter::create(&out, false), Err(BundleWriteError::Exists { .. })));

        let mut writer = BundleWriter::create(&out, true).unwrap();
        writer.add("part", b"new").unwrap();
        let manifest = writer.finish(&provenance()).unwrap();
        assert_eq!(std::fs::read(out.join("part")).unwrap(), b"new");
        assert_eq!(manifest.part("part").unwrap().sha256, sha256_hex(b"new"));
        assert_eq!(std::fs::read_dir(out.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_of_other_things_is_never_replaced() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("thesis.tex"), "years of work").unwrap();
        let result = BundleWriter::create(home.path(), true);
        assert!(matches!(result, Err(BundleWriteError::Occupied { .. })));
    }

    #[test]
    fn a_parent_that_is_a_file_is_refused_at_once() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("file"), "").unwrap();
        let result = BundleWriter::create(&home.path().join("file").join("bundle"), false);
        assert!(matches!(result, Err(BundleWriteError::NotWritable { .. })));
    }
}
