//! Why a device does not trust a bundle, and what can be done about it.

use std::io;
use std::path::PathBuf;

use super::minimum_release::MinimumReleaseError;
use super::policy::{Distrust, PolicyError};
use super::signature::{SIGNATURE_FILE, SignatureFormatError};

/// Why a bundle is not trusted, or why that cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The policy cannot be read.
    #[error("cannot read the trust policy `{path}`")]
    PolicyRead { path: PathBuf, source: io::Error },
    /// Everybody could change whom the device trusts.
    #[error("the trust policy `{path}` can be written to by others than its owner: its mode is {mode:03o}")]
    PolicyWritable { path: PathBuf, mode: u32 },
    /// The policy is no valid one.
    #[error("the trust policy `{path}` is refused")]
    Policy { path: PathBuf, source: Box<PolicyError> },
    /// No signature where one is needed.
    #[error("the bundle is not signed: it has no `{SIGNATURE_FILE}`")]
    Unsigned,
    /// The signature file cannot be read.
    #[error("cannot read `{SIGNATURE_FILE}`")]
    SignatureRead { source: io::Error },
    /// The signature file is no valid one.
    #[error("`{SIGNATURE_FILE}` is refused")]
    SignatureFormat { source: SignatureFormatError },
    /// The policy refuses the bundle.
    #[error("the bundle is not trusted")]
    Distrusted { source: Distrust },
    /// The device has gone beyond this release.
    #[error("the bundle is release {release}; this device accepts none before {minimum}, because it has run that one")]
    RolledBack { release: u32, minimum: u32 },
    /// How far the device may go back is not known.
    #[error("cannot tell how far this device may go back")]
    MinimumRelease {
        #[from]
        source: MinimumReleaseError,
    },
}

impl TrustError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::PolicyRead { .. } => "name the policy with --trust FILE and let the user of this program read it",
            Self::PolicyWritable { path, .. } => return Some(format!("run `chmod go-w {}`", path.display())),
            Self::Policy { .. } => "docs/trust.md shows a policy with every key",
            Self::Unsigned => "sign it with `host-flash sign --bundle DIR --key FILE --release N`",
            Self::SignatureRead { .. } | Self::SignatureFormat { .. } => "sign the bundle again, or copy it again",
            Self::Distrusted { source } => match source {
                Distrust::UnknownKey { .. } => {
                    "sign it with a key that this device trusts, or add its public key to the policy"
                }
                Distrust::WrongSignature { .. } | Distrust::ManifestChanged { .. } => {
                    "do not use it; copy the bundle again from where it was signed"
                }
                Distrust::OtherBoard { .. } => "make and sign a bundle for this board",
                Distrust::KeyNotForRelease { .. } => "sign it with the key of this release",
                Distrust::BelowMinimum { .. } => "use a newer release, or sign this one with a higher --release",
            },
            Self::RolledBack { .. } => "use a newer release, or sign this one with a higher --release",
            Self::MinimumRelease { source: MinimumReleaseError::Content { .. } } => {
                "restore the file; without it, this device would accept every release that the policy does"
            }
            Self::MinimumRelease { .. } => "let the user of this program read and write the file and its folder",
        };
        Some(hint.to_owned())
    }
}
