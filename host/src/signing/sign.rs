//! `host-flash sign`: vouches for a bundle.

use std::path::PathBuf;

use clap::Args;
use headroom_device::bundle::Bundle;
use headroom_device::bundle::trust::{SIGNATURE_FILE, SignedStatement, Statement};
use headroom_device::whole_file;
use serde::Serialize;

use super::REPORT_VERSION;
use super::error::SigningError;
use super::signing_key::{KeySource, SigningKey};

/// The command line of `host-flash sign`.
#[derive(Clone, Debug, Args)]
pub struct SignArguments {
    /// The bundle. An earlier signature is replaced.
    #[arg(long, value_name = "DIR")]
    pub bundle: PathBuf,

    /// The secret key that `keygen` made, or agent:KEY for the key in the SSH agent with that fingerprint or comment;
    /// else the environment variable HEADROOM_SIGNING_KEY holds it, in PEM.
    #[arg(long, value_name = "FILE|agent:KEY")]
    pub key: Option<KeySource>,

    /// The release counter: higher than that of every release before, so that devices can refuse to go back.
    #[arg(long, value_name = "N")]
    pub release: u32,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What was signed.
#[derive(Clone, Debug, Serialize)]
pub struct SignReport {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The signature file.
    pub signature: PathBuf,
    /// The SHA-256 of the manifest: the bundle's identity.
    pub bundle: String,
    /// The board that the bundle is for.
    pub board: String,
    /// The release counter.
    pub release: u32,
    /// The fingerprint of the key.
    pub key: String,
}

impl SignReport {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "signed   {}\nbundle   {}\nboard    {}\nrelease  {}\nkey      {}",
            self.signature.display(),
            self.bundle,
            self.board,
            self.release,
            self.key
        )
    }
}

/// Signs the bundle, which must be one that a device can open.
///
/// # Errors
/// If the bundle is refused, the key cannot be had, or the signature cannot be
/// written; an earlier signature stays then.
pub fn sign(arguments: &SignArguments) -> Result<SignReport, SigningError> {
    // The key first: opening a large bundle takes a while.
    let key = SigningKey::find(arguments.key.as_ref())?;
    let bundle = Bundle::open(&arguments.bundle)
        .map_err(|source| SigningError::Bundle { path: arguments.bundle.clone(), source })?;
    let board = &bundle.manifest().target;
    let statement = Statement::new(board, arguments.release, *bundle.digest(), key.public_key().fingerprint())
        .map_err(|source| SigningError::Board { board: board.clone(), source })?;
    let signature = key.sign(statement.signed_text().as_bytes())?;
    let signed = SignedStatement { statement, signature };
    let path = arguments.bundle.join(SIGNATURE_FILE);
    whole_file::write(&path, signed.encode().as_bytes())
        .map_err(|source| SigningError::Write { path: path.clone(), source })?;
    Ok(SignReport {
        version: REPORT_VERSION,
        signature: path,
        bundle: bundle.hash().to_owned(),
        board: board.clone(),
        release: arguments.release,
        key: signed.statement.key().to_string(),
    })
}
