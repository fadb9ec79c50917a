//! Why keys or signatures could not be made or checked.

use std::io;
use std::path::PathBuf;

use ed25519_dalek::pkcs8;
use headroom_device::bundle::BundleError;
use headroom_device::bundle::trust::{PublicKeyError, SignatureFormatError, TrustError};

use super::agent::AgentError;
use super::secret_key::SECRET_KEY_VARIABLE;

/// Why keys or signatures could not be made or checked. No message holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SigningError {
    /// A key is never replaced.
    #[error("`{path}` is there already")]
    Exists { path: PathBuf },
    /// The operating system gives no random bytes.
    #[error("cannot get random bytes for a key")]
    Random { source: getrandom::Error },
    /// A file could not be written.
    #[error("cannot write `{path}`")]
    Write { path: PathBuf, source: io::Error },
    /// A file could not be read.
    #[error("cannot read `{path}`")]
    Read { path: PathBuf, source: io::Error },
    /// No secret key was named.
    #[error("no secret key: neither --key nor the environment variable {SECRET_KEY_VARIABLE} is there")]
    NoSecretKey,
    /// The SSH agent does not sign.
    #[error("cannot sign with a key of the SSH agent")]
    Agent(#[from] AgentError),
    /// Others may read the secret key.
    #[error("the secret key `{path}` is not only its owner's: its mode is {mode:03o}, at most 600 is accepted")]
    Permissions { path: PathBuf, mode: u32 },
    /// A text that is no secret key.
    #[error("{place} holds no ed25519 secret key in PEM, `-----BEGIN PRIVATE KEY-----`")]
    SecretKey { place: String, source: pkcs8::Error },
    /// A secret key that a password protects.
    #[error("{place} holds a secret key that a password protects")]
    Encrypted { place: String },
    /// A text that is no public key.
    #[error("`{path}` holds no public key")]
    PublicKey { path: PathBuf, source: PublicKeyError },
    /// The bundle is refused.
    #[error("cannot open the bundle `{path}`")]
    Bundle { path: PathBuf, source: BundleError },
    /// The name of the bundle's board does not fit into a signature.
    #[error("the bundle is for the board `{board}`, which no signature can name")]
    Board { board: String, source: SignatureFormatError },
    /// The trust policy cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl SigningError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists { .. } => Some("choose another file with --out; keys are never replaced".into()),
            Self::NoSecretKey => Some("make a key with `host-flash keygen --out FILE`".into()),
            Self::Agent(error) => error.hint(),
            Self::Permissions { path, .. } => Some(format!(
                "run `chmod 600 {}`, and make a new key if somebody may have read this one",
                path.display()
            )),
            Self::Encrypted { .. } => Some(format!(
                "`openssl pkey -in FILE` asks for the password and prints the key: hand it over in {SECRET_KEY_VARIABLE}"
            )),
            Self::Bundle { source, .. } => source.hint(),
            Self::Trust(error) => error.hint(),
            _ => None,
        }
    }
}
