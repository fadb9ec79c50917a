//! `host-flash keygen`: a new pair of keys in two files.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::REPORT_VERSION;
use super::error::SigningError;
use super::secret_key::SecretKey;

/// The command line of `host-flash keygen`.
#[derive(Clone, Debug, Args)]
pub struct KeygenArguments {
    /// The file of the secret key, which only you will be able to read; FILE.pub becomes the public key.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What was made.
#[derive(Clone, Debug, Serialize)]
pub struct KeygenReport {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The file of the secret key.
    pub secret_key: PathBuf,
    /// The file of the public key.
    pub public_key: PathBuf,
    /// SHA-256 of the public key.
    pub fingerprint: String,
    /// The public key in PEM.
    pub public_key_pem: String,
}

impl KeygenReport {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "secret key   {}  (keep it, and a copy of it, away from networks)\npublic key   {}\nfingerprint  {}\n\n",
            self.secret_key.display(),
            self.public_key.display(),
            self.fingerprint
        );
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "A device that trusts the key has in its trust policy:\n\n[[key]]\nname = {:?}\npublic_key = \"\"\"\n{}\"\"\"",
            self.secret_key.file_name().unwrap_or_default().to_string_lossy(),
            self.public_key_pem
        );
        text
    }
}

/// Makes a pair of keys.
///
/// # Errors
/// If one of the files is there already or cannot be written; neither is left behind then.
pub fn keygen(arguments: &KeygenArguments) -> Result<KeygenReport, SigningError> {
    let key = SecretKey::generate()?;
    let public_key = key.public_key();
    let public_path = with_pub(&arguments.out);
    write_new(&public_path, public_key.to_pem().as_bytes(), 0o644)?;
    if let Err(error) = write_new(&arguments.out, key.to_pem().as_bytes(), 0o600) {
        // It was made a moment ago, and belongs to no key.
        let _ = std::fs::remove_file(&public_path);
        return Err(error);
    }
    Ok(KeygenReport {
        version: REPORT_VERSION,
        secret_key: arguments.out.clone(),
        public_key: public_path,
        fingerprint: public_key.fingerprint().to_string(),
        public_key_pem: public_key.to_pem(),
    })
}

/// FILE.pub, as SSH names public keys.
fn with_pub(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

/// Writes a file that was not there: beside, synced, renamed. Whatever the umask is, its mode is `mode`.
fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), SigningError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || {
        // Only its owner can read a temporary file from the first moment on.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(content)?;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map_err(|error| error.error)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => SigningError::Exists { path: path.to_path_buf() },
        _ => SigningError::Write { path: path.to_path_buf(), source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_secret_key_is_its_owners_only_and_is_never_replaced() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("release.key");
        let arguments = KeygenArguments { out: out.clone(), json: false };
        let report = keygen(&arguments).unwrap();
        assert_eq!((mode(&out), mode(&report.public_key)), (0o600, 0o644));
        let key = SecretKey::read(&out).unwrap();
        assert_eq!(std::fs::read_to_string(&report.public_key).unwrap(), key.public_key().to_pem());
        assert!(!report.text().contains("PRIVATE"));

        assert!(matches!(keygen(&arguments), Err(SigningError::Exists { .. })));
        assert_eq!(SecretKey::read(&out).unwrap().public_key(), key.public_key());
        std::fs::remove_file(&report.public_key).unwrap();
        assert!(matches!(keygen(&arguments), Err(SigningError::Exists { path }) if path == out));
        assert_eq!(home.path().read_dir().unwrap().count(), 1, "something was left behind");
        let nowhere = KeygenArguments { out: home.path().join("no/key"), json: false };
        assert!(matches!(keygen(&nowhere), Err(SigningError::Write { .. })));
    }
}
