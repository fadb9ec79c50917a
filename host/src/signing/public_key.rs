//! `host-flash public-key`: the public half of a key, as trust policies have it.

use clap::Args;
use serde::Serialize;

use super::REPORT_VERSION;
use super::error::SigningError;
use super::signing_key::{KeySource, SigningKey};

/// The command line of `host-flash public-key`.
#[derive(Clone, Debug, Args)]
pub struct PublicKeyArguments {
    /// The secret key: a file, or agent:KEY for the key in the SSH agent with that fingerprint or comment; else the
    /// environment variable HEADROOM_SIGNING_KEY holds it.
    #[arg(long, value_name = "FILE|agent:KEY")]
    pub key: Option<KeySource>,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The public key.
#[derive(Clone, Debug, Serialize)]
pub struct PublicKeyReport {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// SHA-256 of the public key.
    pub fingerprint: String,
    /// The public key in PEM.
    pub public_key_pem: String,
}

impl PublicKeyReport {
    /// The key alone, so that it can be written to a file.
    #[must_use]
    pub fn text(&self) -> String {
        self.public_key_pem.trim_end().to_owned()
    }
}

/// Finds the key and tells its public half.
///
/// # Errors
/// If the key cannot be had.
pub fn public_key(arguments: &PublicKeyArguments) -> Result<PublicKeyReport, SigningError> {
    let key = SigningKey::find(arguments.key.as_ref())?.public_key();
    Ok(PublicKeyReport {
        version: REPORT_VERSION,
        fingerprint: key.fingerprint().to_string(),
        public_key_pem: key.to_pem(),
    })
}
