//! Taking a path for a socket, so that nobody else serves there.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::serve::SocketError;

/// Owner and group may connect, nobody else: who connects can make the program read its files again.
const MODE: u32 = 0o660;

/// A listening socket at a path. Dropping it removes the path.
///
/// Beside it is a file with `.lock` at the end of its name, which one process at a time has locked. The kernel unlocks
/// it when the process ends, however it does, so that the socket of a process that crashed is taken over. The file
/// stays: removing it would let two processes lock two files of the same name.
pub(in crate::serve) struct Socket {
    pub listener: UnixListener,
    pub path: PathBuf,
    _lock: File,
}

impl Socket {
    /// Takes `path`.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |what| move |source: io::Error| SocketError::System { what, path: path.to_path_buf(), source };
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(with_suffix(path, ".lock"))
            .map_err(failed("open the lock file of the socket"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SocketError::InUse { path: path.to_path_buf() }),
            Err(TryLockError::Error(source)) => return Err(failed("lock the lock file of the socket")(source)),
        }
        if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
            return Err(SocketError::NotASocket { path: path.to_path_buf() });
        }
        // Made beside and renamed, so that nobody connects before the permissions hold, and a stale socket is replaced.
        let beside = with_suffix(path, ".new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("prepare the socket")(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&beside).map_err(failed("make the socket"))?;
        fs::set_permissions(&beside, Permissions::from_mode(MODE)).map_err(failed("protect the socket"))?;
        fs::rename(&beside, path).map_err(failed("name the socket"))?;
        Ok(Self { listener, path: path.to_path_buf(), _lock: lock })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Still ours: the lock is held until after this.
        let _ = fs::remove_file(&self.path);
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_path_is_taken_once_and_free_afterwards() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("socket");
        let first = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert!(matches!(Socket::bind(&path), Err(SocketError::InUse { .. })));
        UnixStream::connect(&path).unwrap();
        drop(first);
        assert!(!path.exists());
        Socket::bind(&path).unwrap();
    }

    #[test]
    fn a_socket_that_a_crash_left_behind_is_replaced_and_a_file_is_not() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists() && UnixStream::connect(&path).is_err());
        drop(Socket::bind(&path).unwrap());
        fs::write(&path, "a thesis").unwrap();
        assert!(matches!(Socket::bind(&path), Err(SocketError::NotASocket { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"a thesis");
        assert!(matches!(Socket::bind(&home.path().join("no/socket")), Err(SocketError::System { .. })));
    }
}
