//! `host-flash verify`: what a device would say to a bundle.

use std::path::{Path, PathBuf};

use clap::Args;
use headroom_device::bundle::Bundle;
use headroom_device::bundle::trust::{DEFAULT_POLICY_FILE, Policy, PublicKey, Trust};
use serde::Serialize;

use super::REPORT_VERSION;
use super::error::SigningError;

/// The command line of `host-flash verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArguments {
    /// The bundle.
    #[arg(long, value_name = "DIR")]
    pub bundle: PathBuf,

    /// The trust policy of the device [default: /etc/headroom/trust.toml].
    #[arg(long, value_name = "FILE", conflicts_with = "public_key")]
    pub trust: Option<PathBuf>,

    /// A public key, in PEM; any board and release will do.
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What was signed. A bundle that is not trusted is an error.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The SHA-256 of the manifest: the bundle's identity.
    pub bundle: String,
    /// Whether the bundle is signed; without, a policy that requires no signature let it pass.
    pub signed: bool,
    /// The board that the bundle is for.
    pub board: String,
    /// The release counter.
    pub release: Option<u32>,
    /// The fingerprint of the key.
    pub key: Option<String>,
}

impl VerifyReport {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let head = format!("bundle   {}\nboard    {}\n", self.bundle, self.board);
        match (&self.key, self.release) {
            (Some(key), Some(release)) => format!("{head}release  {release}\nkey      {key}\ntrusted"),
            _ => format!("{head}not signed, and the policy does not require it"),
        }
    }
}

/// Opens the bundle as a device does.
///
/// # Errors
/// If the bundle is not trusted or refused, or the policy or key cannot be read.
pub fn verify(arguments: &VerifyArguments) -> Result<VerifyReport, SigningError> {
    let trust = match (&arguments.trust, &arguments.public_key) {
        (None, None) => Trust::load(Path::new(DEFAULT_POLICY_FILE))?,
        (Some(policy), _) => Trust::load(policy)?,
        (None, Some(path)) => {
            let pem =
                std::fs::read_to_string(path).map_err(|source| SigningError::Read { path: path.clone(), source })?;
            let key =
                PublicKey::from_pem(&pem).map_err(|source| SigningError::PublicKey { path: path.clone(), source })?;
            Trust::by(Policy::of_key(&path.display().to_string(), key))
        }
    };
    let bundle = Bundle::open_with(&arguments.bundle, Some(&trust))
        .map_err(|source| SigningError::Bundle { path: arguments.bundle.clone(), source })?;
    let statement = bundle.statement();
    Ok(VerifyReport {
        version: REPORT_VERSION,
        bundle: bundle.hash().to_owned(),
        signed: statement.is_some(),
        board: bundle.manifest().target.clone(),
        release: statement.map(|statement| statement.release()),
        key: statement.map(|statement| statement.key().to_string()),
    })
}
