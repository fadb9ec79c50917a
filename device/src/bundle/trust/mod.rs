//! Which bundles a device trusts.
//!
//! A device with a [`Policy`] opens only bundles that a key of its policy has
//! signed, for this board, with a release counter that is not behind. All of
//! this is known before anything of the bundle but the signature file is
//! parsed: see [`Trust::admit`]. The signature covers the manifest's SHA-256,
//! the manifest the SHA-256 of every part, and what is parsed are the bytes
//! that were hashed.
//!
//! | file | content |
//! |---|---|
//! | `signature` | the signature file and what is signed |
//! | `public_key` | keys and their fingerprints |
//! | `policy` | the policy file, and the judgement of one statement |
//! | `minimum_release` | the releases that the device does not go back behind |
//!
//! # The policy file
//!
//! ```toml
//! version = 1
//! # This device. A bundle for another board is refused.
//! board = "jetson-orin"
//! # Refuse bundles without a signature. False only warns of them, and so keeps
//! # nobody out: whoever changes a bundle can also remove its signature.
//! require = true
//! # Where the device keeps the releases that it does not go back behind.
//! minimum_release_file = "/var/lib/headroom/minimum-release.toml"
//! # By board, the first release that is accepted, whatever that file says.
//! minimum_release = { jetson-orin = 12 }
//!
//! # As many as there are.
//! [[key]]
//! name = "release key 2026"
//! public_key = """
//! -----BEGIN PUBLIC KEY-----
//! MCowBQYDK2VwAyEA6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=
//! -----END PUBLIC KEY-----
//! """
//! # The releases that the key may sign, both ends included; all where it is left out.
//! releases = { from = 1, to = 40 }
//! ```
//!
//! Changing keys: `docs/trust.md`.
//!
#![doc = include_str!("THREATS.md")]

mod error;
mod minimum_release;
mod policy;
mod public_key;
mod signature;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub use error::TrustError;
pub use minimum_release::MinimumReleaseError;
pub use policy::{
    DEFAULT_MINIMUM_RELEASE_FILE, Distrust, POLICY_VERSION, Policy, PolicyError, ReleaseRange, TrustedKey,
};
pub use public_key::{Fingerprint, PublicKey, PublicKeyError};
pub use signature::{
    CONTEXT, MOST_BOARD_BYTES, SIGNATURE_FILE, SIGNATURE_VERSION, SignatureFormatError, SignedStatement, Statement,
    is_board_name,
};

use super::read::read_at_most;

/// Where a device's policy is, unless the command line says otherwise.
pub const DEFAULT_POLICY_FILE: &str = "/etc/headroom/trust.toml";
/// No policy file is longer.
const MOST_POLICY_BYTES: u64 = 1 << 20;

/// Decides which bundles are opened.
#[derive(Clone, Debug)]
pub struct Trust {
    policy: Policy,
}

impl Trust {
    /// Decides by the policy in the file `path`; `None` stands for
    /// [`DEFAULT_POLICY_FILE`]. Returns `None` where that one does not exist:
    /// this device has no policy, and every bundle is opened.
    ///
    /// # Errors
    /// If the policy is not readable, not valid or open for others to write.
    pub fn find(path: Option<&Path>) -> Result<Option<Self>, TrustError> {
        match path {
            Some(path) => Self::load(path).map(Some),
            None => match Self::load(Path::new(DEFAULT_POLICY_FILE)) {
                Err(TrustError::PolicyRead { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
                found => found.map(Some),
            },
        }
    }

    /// Decides by the policy in the file `path`.
    ///
    /// # Errors
    /// If it is not there, not readable, not valid or open for others to write.
    pub fn load(path: &Path) -> Result<Self, TrustError> {
        let failed = |source| TrustError::PolicyRead { path: path.to_path_buf(), source };
        let mode = std::fs::metadata(path).map_err(failed)?.mode() & 0o777;
        if mode & 0o022 != 0 {
            return Err(TrustError::PolicyWritable { path: path.to_path_buf(), mode });
        }
        let text = read_at_most(path, MOST_POLICY_BYTES).map_err(failed)?;
        let text =
            String::from_utf8(text).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        let policy = Policy::parse(&text)
            .map_err(|error| TrustError::Policy { path: path.to_path_buf(), source: error.into() })?;
        Ok(Self { policy })
    }

    /// Decides by `policy`.
    #[must_use]
    pub fn by(policy: Policy) -> Self {
        Self { policy }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether the bundle in `folder`, whose manifest has the SHA-256
    /// `manifest`, may be opened. Reads the signature file, the release that
    /// the device may not go back behind, and nothing else.
    ///
    /// Returns what was signed; `None` for a bundle without a signature where
    /// the policy does not require one.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, folder: &Path, manifest: &[u8; 32]) -> Result<Option<Statement>, TrustError> {
        let file = match read_at_most(&folder.join(SIGNATURE_FILE), signature::MOST_BYTES) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return if self.policy.require { Err(TrustError::Unsigned) } else { Ok(None) };
            }
            Err(source) => return Err(TrustError::SignatureRead { source }),
        };
        let signed = SignedStatement::decode(&file).map_err(|source| TrustError::SignatureFormat { source })?;
        self.policy.judge(&signed, manifest).map_err(|source| TrustError::Distrusted { source })?;
        if let Some(path) = &self.policy.minimum_release_file {
            let minimum = minimum_release::read(path, signed.statement.board())?;
            let release = signed.statement.release();
            if release < minimum {
                return Err(TrustError::RolledBack { release, minimum });
            }
        }
        Ok(Some(signed.statement))
    }

    /// Never again accepts a bundle of an earlier release than this one, on
    /// this device and for this board. For the moment when a release has
    /// proved itself: what came before it cannot be gone back to.
    /// Returns whether that is news.
    ///
    /// # Errors
    /// If the file that keeps the release cannot be written; it is as it was then.
    pub fn raise_minimum(&self, proved: &Statement) -> Result<bool, TrustError> {
        match &self.policy.minimum_release_file {
            Some(path) => Ok(minimum_release::raise(path, proved.board(), proved.release())?),
            None => Ok(false),
        }
    }
}
