//! The key that signs, wherever it is kept.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use headroom_device::bundle::trust::PublicKey;

use super::agent::AgentKey;
use super::error::SigningError;
use super::secret_key::SecretKey;

/// What stands after `--key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file that only its owner can read.
    File(PathBuf),
    /// `agent:KEY`, a fingerprint or a comment in the SSH agent.
    Agent(String),
}

impl FromStr for KeySource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.strip_prefix("agent:") {
            Some(key) => Self::Agent(key.to_owned()),
            None => Self::File(text.into()),
        })
    }
}

/// A key that can sign.
#[derive(Debug)]
pub enum SigningKey {
    /// Its secret half is here.
    Held(SecretKey),
    /// An SSH agent has it.
    InAgent(AgentKey),
}

impl SigningKey {
    /// The key of the source, or where none is named, the one in
    /// [`SECRET_KEY_VARIABLE`](super::SECRET_KEY_VARIABLE).
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn find(source: Option<&KeySource>) -> Result<Self, SigningError> {
        Ok(match source {
            Some(KeySource::Agent(key)) => Self::InAgent(AgentKey::find(key)?),
            Some(KeySource::File(path)) => Self::Held(SecretKey::find(Some(path))?),
            None => Self::Held(SecretKey::find(None)?),
        })
    }

    /// Its public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        match self {
            Self::Held(key) => key.public_key(),
            Self::InAgent(key) => key.public_key(),
        }
    }

    /// The signature of `message`.
    ///
    /// # Errors
    /// If an agent does not sign.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], SigningError> {
        match self {
            Self::Held(key) => Ok(key.sign(message)),
            Self::InAgent(key) => Ok(key.sign(message)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_no_agent() {
        let source = |text: &str| text.parse::<KeySource>().unwrap();
        assert_eq!(source("release.key"), KeySource::File("release.key".into()));
        assert_eq!(source("./agent:x"), KeySource::File("./agent:x".into()));
        assert_eq!(source("agent:SHA256:abc"), KeySource::Agent("SHA256:abc".into()));
        assert_eq!(source("agent:me@here"), KeySource::Agent("me@here".into()));
    }
}
