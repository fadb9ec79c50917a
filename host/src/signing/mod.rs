//! Keys and signatures of bundles: `host-flash keygen`, `sign` and `verify`.
//!
//! What a signature says, and how a device judges it, is
//! [`headroom_device::bundle::trust`]'s business; making one is this module's.
//!
//! | file | content |
//! |---|---|
//! | `secret_key` | the secret key: in a file that only its owner can read, or in the environment |
//! | `agent` | a key in an SSH agent |
//! | `signing_key` | the one of the two that signs |
//! | `keygen` | makes a pair of keys |
//! | `public_key` | tells the public half of a key |
//! | `sign` | signs a bundle |
//! | `verify` | asks what a device would say to a bundle |
//!
//! Keys in files are PKCS#8 and SPKI in PEM (RFC 8410): `openssl genpkey
//! -algorithm ed25519` makes them too.

mod agent;
mod error;
mod keygen;
mod public_key;
mod secret_key;
mod sign;
mod signing_key;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;
use headroom_device::program;

pub use agent::{AGENT_VARIABLE, AgentError, AgentKey};
pub use error::SigningError;
pub use keygen::{KeygenArguments, KeygenReport, keygen};
pub use public_key::{PublicKeyArguments, PublicKeyReport, public_key};
pub use secret_key::{SECRET_KEY_VARIABLE, SecretKey};
pub use sign::{SignArguments, SignReport, sign};
pub use signing_key::{KeySource, SigningKey};
pub use verify::{VerifyArguments, VerifyReport, verify};

/// The version of what is printed as JSON. A field is only ever added within a version.
pub const REPORT_VERSION: u32 = 1;

/// The subcommands of `host-flash` that need no device.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Makes a pair of keys: FILE for signing, FILE.pub for the trust policies of devices.
    Keygen(KeygenArguments),
    /// Prints the public half of a key, for the trust policies of devices.
    PublicKey(PublicKeyArguments),
    /// Signs a bundle: writes `manifest.sig` into it.
    Sign(SignArguments),
    /// Checks a bundle as a device with this policy, or with this public key alone, would.
    Verify(VerifyArguments),
}

/// Runs a subcommand and prints its result.
pub fn main(command: &Command) -> ExitCode {
    let done = match command {
        Command::Keygen(arguments) => {
            keygen(arguments).map(|report| program::print(arguments.json, &report, || report.text()))
        }
        Command::PublicKey(arguments) => {
            public_key(arguments).map(|report| program::print(arguments.json, &report, || report.text()))
        }
        Command::Sign(arguments) => {
            sign(arguments).map(|report| program::print(arguments.json, &report, || report.text()))
        }
        Command::Verify(arguments) => {
            verify(arguments).map(|report| program::print(arguments.json, &report, || report.text()))
        }
    };
    match done {
        Ok(printed) => program::printed(printed),
        Err(error) => program::report(&error, error.hint().as_deref()),
    }
}
