//! The releases that a device does not go back behind: a file that only ever grows.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::bundle::read::read_at_most;

/// The version of the file that this code writes and reads.
const FILE_VERSION: u32 = 1;
/// No such file is longer.
const MOST_BYTES: u64 = 65_536;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MinimumReleaseError {
    /// It is there and cannot be read.
    #[error("cannot read `{path}`, which says how far this device may go back")]
    Read { path: PathBuf, source: io::Error },
    /// It was damaged, or written by another version.
    #[error("`{path}`, which says how far this device may go back, is damaged")]
    Content { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    /// It cannot be written.
    #[error("cannot write `{path}`, which says how far this device may go back")]
    Write { path: PathBuf, source: io::Error },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    #[serde(default)]
    minimum_release: BTreeMap<String, u32>,
}

/// The first release that is accepted for `board`; 0 where the file is not there.
pub(super) fn read(path: &Path, board: &str) -> Result<u32, MinimumReleaseError> {
    Ok(content(path)?.minimum_release.get(board).copied().unwrap_or(0))
}

/// Accepts no release before `release` from now on. Returns whether that is news.
///
/// Written beside, synced and renamed: whatever goes wrong, the old file or
/// the new one is there. Processes that do this at once take turns.
pub(super) fn raise(path: &Path, board: &str, release: u32) -> Result<bool, MinimumReleaseError> {
    let failed = |source| MinimumReleaseError::Write { path: path.to_path_buf(), source };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let folder = File::open(folder).map_err(failed)?;
    folder.lock().map_err(failed)?;
    let mut content = content(path)?;
    let minimum = content.minimum_release.entry(board.to_owned()).or_insert(0);
    if *minimum >= release {
        return Ok(false);
    }
    *minimum = release;
    let text = toml::to_string(&content).map_err(|error| failed(io::Error::other(error)))?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        folder.sync_all()
    };
    write().map_err(failed)?;
    Ok(true)
}

fn content(path: &Path) -> Result<Content, MinimumReleaseError> {
    let bytes = match read_at_most(path, MOST_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Content { version: FILE_VERSION, minimum_release: BTreeMap::new() });
        }
        Err(source) => return Err(MinimumReleaseError::Read { path: path.to_path_buf(), source }),
    };
    let damaged = |source| MinimumReleaseError::Content { path: path.to_path_buf(), source };
    let content: Content = toml::from_slice(&bytes).map_err(|error| damaged(error.into()))?;
    if content.version != FILE_VERSION {
        return Err(damaged(format!("it has version {}, expected {FILE_VERSION}", content.version).into()));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_by_board_and_never_shrinks() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state/minimum.toml");
        assert_eq!(read(&path, "orin").unwrap(), 0);
        assert!(raise(&path, "orin", 12).unwrap());
        assert!(raise(&path, "nano", 3).unwrap());
        assert!(!raise(&path, "orin", 12).unwrap());
        assert!(!raise(&path, "orin", 11).unwrap());
        assert_eq!((read(&path, "orin").unwrap(), read(&path, "nano").unwrap(), read(&path, "x").unwrap()), (12, 3, 0));
        assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 1, "something was left behind");
    }

    #[test]
    fn what_an_interrupted_write_left_does_no_harm() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("minimum.toml");
        raise(&path, "orin", 12).unwrap();
        std::fs::write(home.path().join("minimum.toml.new"), "vers").unwrap();
        assert_eq!(read(&path, "orin").unwrap(), 12);
        assert!(raise(&path, "orin", 13).unwrap());
        assert_eq!(read(&path, "orin").unwrap(), 13);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_stays() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("minimum.toml");
        for text in ["", "version = 2", "version = 1\n[minimum_release]\norin = -1", "\0\0\0"] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(read(&path, "orin"), Err(MinimumReleaseError::Content { .. })), "{text:?}");
            assert!(matches!(raise(&path, "orin", 12), Err(MinimumReleaseError::Content { .. })), "{text:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert!(matches!(read(home.path(), "orin"), Err(MinimumReleaseError::Read { .. })));
    }

    #[test]
    fn those_who_raise_at_once_take_turns() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("minimum.toml");
        std::thread::scope(|scope| {
            for release in 1..=16 {
                let path = &path;
                scope.spawn(move || raise(path, "orin", release).unwrap());
            }
        });
        assert_eq!(read(&path, "orin").unwrap(), 16);
    }
}
