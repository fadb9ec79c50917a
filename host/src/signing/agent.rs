//! Keys in an SSH agent, which signs and never hands a key out.
//!
//! An agent signs any bytes with an `ssh-ed25519` key as RFC 8032 says, so that the signature is the one that the key in
//! a file makes. Keys on security keys (`sk-ssh-ed25519`) sign something else and are refused.
//!
//! Two messages of the protocol (draft-ietf-sshm-ssh-agent) are needed. The client libraries bring RSA and three more
//! curves for them, so `ssh-encoding` alone reads and writes them here. What an agent answers is not trusted: lengths
//! are limited, and a signature is checked before it is used.

use std::env;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use base64ct::{Base64Unpadded, Encoding};
use ed25519_dalek::VerifyingKey;
use headroom_device::bundle::trust::PublicKey;
use sha2::{Digest, Sha256};
use ssh_encoding::{Decode, Encode};

/// Where agents tell their socket.
pub const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";

/// The kind of key that can sign bundles.
const ED25519: &str = "ssh-ed25519";

/// No message is longer: OpenSSH's own limit.
const MOST_BYTES: usize = 256 * 1024;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// Why a key of an agent cannot sign.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    #[error("there is no SSH agent: the environment variable {AGENT_VARIABLE} is not set")]
    None,
    #[error("cannot reach the SSH agent at `{}`", socket.display())]
    Unreachable { socket: PathBuf, source: io::Error },
    #[error("the connection to the SSH agent broke")]
    Broken(#[from] io::Error),
    #[error("the SSH agent answered what the protocol does not allow")]
    Answer(#[from] ssh_encoding::Error),
    #[error("the SSH agent answered with message {found}, expected {expected}")]
    OtherMessage { expected: u8, found: u8 },
    #[error("the SSH agent's answer has {found} bytes, at most {MOST_BYTES} are read")]
    TooLong { found: usize },
    #[error("the SSH agent shows no keys: it has none, or is locked")]
    NoKeys,
    #[error("the SSH agent has no key `{wanted}`; it has: {}", found.join(", "))]
    NoSuchKey { wanted: String, found: Vec<String> },
    #[error("several keys of the SSH agent are called `{wanted}`: {}", found.join(", "))]
    SeveralKeys { wanted: String, found: Vec<String> },
    #[error("the key `{key}` of the SSH agent is of the kind {kind}, expected {ED25519}")]
    Kind { key: String, kind: String },
    #[error("the SSH agent did not sign with the key `{key}`: it is locked, or was told not to")]
    Refused { key: String },
    #[error("the SSH agent's signature is not one of the key `{key}`")]
    WrongSignature { key: String },
}

impl AgentError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::None | Self::Unreachable { .. } => {
                Some("start one with `eval $(ssh-agent)` and add a key to it with `ssh-add FILE`".into())
            }
            Self::NoKeys | Self::Refused { .. } => {
                Some("`ssh-add -X` unlocks it, `ssh-add FILE` adds a key, `ssh-add -l` lists them".into())
            }
            Self::NoSuchKey { .. } => Some("`ssh-add -l` lists them; `ssh-add FILE` adds one".into()),
            Self::SeveralKeys { .. } => Some("name the fingerprint: agent:SHA256:...".into()),
            Self::Kind { .. } => Some("`ssh-keygen -t ed25519 -f FILE` makes one, `ssh-add FILE` adds it".into()),
            _ => None,
        }
    }
}

/// A key that an agent holds.
#[derive(Debug)]
pub struct AgentKey {
    public_key: PublicKey,
    /// As SSH writes it.
    blob: Vec<u8>,
    name: String,
    stream: UnixStream,
}

/// A key as an agent lists it.
struct Identity {
    blob: Vec<u8>,
    comment: String,
}

impl Identity {
    /// As `ssh-add -l` shows it.
    fn fingerprint(&self) -> String {
        format!("SHA256:{}", Base64Unpadded::encode_string(&Sha256::digest(&self.blob)))
    }

    fn name(&self) -> String {
        format!("{} {}", self.fingerprint(), printable(&self.comment))
    }

    fn is(&self, wanted: &str) -> bool {
        self.fingerprint() == wanted || self.comment == wanted
    }

    fn public_key(&self) -> Result<PublicKey, AgentError> {
        let mut reader = &*self.blob;
        let kind = String::decode(&mut reader)?;
        if kind != ED25519 {
            return Err(AgentError::Kind { key: self.name(), kind: printable(&kind) });
        }
        let key: [u8; 32] = Vec::decode(&mut reader)?.try_into().map_err(|_| ssh_encoding::Error::Length)?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| ssh_encoding::Error::Length)?;
        Ok(PublicKey::from(key))
    }
}

/// Without what would move a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl AgentKey {
    /// The key that the agent of the environment lists with this fingerprint (`SHA256:...`) or comment.
    ///
    /// # Errors
    /// If there is no agent, not exactly one such key, or it is of another kind than ed25519.
    pub fn find(wanted: &str) -> Result<Self, AgentError> {
        let socket = env::var_os(AGENT_VARIABLE).filter(|path| !path.is_empty()).ok_or(AgentError::None)?;
        let socket = PathBuf::from(socket);
        let stream = UnixStream::connect(&socket).map_err(|source| AgentError::Unreachable { socket, source })?;
        Self::find_at(stream, wanted)
    }

    fn find_at(mut stream: UnixStream, wanted: &str) -> Result<Self, AgentError> {
        let identities = identities(&mut stream)?;
        let names = |of: &[&Identity]| of.iter().map(|identity| identity.name()).collect();
        let chosen: Vec<&Identity> = identities.iter().filter(|identity| identity.is(wanted)).collect();
        let wanted = wanted.to_owned();
        match &chosen[..] {
            [only] => Ok(Self { public_key: only.public_key()?, blob: only.blob.clone(), name: only.name(), stream }),
            [] if identities.is_empty() => Err(AgentError::NoKeys),
            [] => {
                let all: Vec<&Identity> = identities.iter().collect();
                Err(AgentError::NoSuchKey { wanted, found: names(&all) })
            }
            several => Err(AgentError::SeveralKeys { wanted, found: names(several) }),
        }
    }

    /// Its public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public_key.clone()
    }

    /// The signature of `message`, which the agent makes; it may ask its user first.
    ///
    /// # Errors
    /// If it refuses, or what it answers is no signature of this key.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], AgentError> {
        let mut request = vec![SIGN_REQUEST];
        self.blob.encode(&mut request)?;
        message.encode(&mut request)?;
        0u32.encode(&mut request)?;
        let key = || self.name.clone();
        let answer = match exchange(&mut &self.stream, &request, SIGN_RESPONSE) {
            Err(AgentError::OtherMessage { found: FAILURE, .. }) => return Err(AgentError::Refused { key: key() }),
            answer => answer?,
        };
        let blob = Vec::decode(&mut &*answer)?;
        let mut reader = &*blob;
        let kind = String::decode(&mut reader)?;
        let signature: Result<[u8; 64], _> = Vec::decode(&mut reader)?.try_into();
        match signature {
            Ok(signature) if kind == ED25519 && self.public_key.signed(message, &signature) => Ok(signature),
            _ => Err(AgentError::WrongSignature { key: key() }),
        }
    }
}

fn identities(stream: &mut UnixStream) -> Result<Vec<Identity>, AgentError> {
    let answer = exchange(stream, &[REQUEST_IDENTITIES], IDENTITIES_ANSWER)?;
    let mut reader = &*answer;
    let count = u32::decode(&mut reader)?;
    // A count that is too high ends with an error when the bytes do.
    (0..count)
        .map(|_| {
            let blob = Vec::decode(&mut reader)?;
            let comment = String::from_utf8_lossy(&Vec::decode(&mut reader)?).into_owned();
            Ok(Identity { blob, comment })
        })
        .collect()
}

/// Sends a message and returns the content of the answer, which must be of the kind `expected`.
fn exchange(stream: &mut (impl Read + Write), message: &[u8], expected: u8) -> Result<Vec<u8>, AgentError> {
    let mut sent = Vec::new();
    message.encode(&mut sent)?;
    stream.write_all(&sent)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let found = u32::from_be_bytes(length) as usize;
    if found > MOST_BYTES {
        return Err(AgentError::TooLong { found });
    }
    let mut answer = vec![0; found];
    stream.read_exact(&mut answer)?;
    let kind = *answer.first().ok_or(ssh_encoding::Error::Length)?;
    if kind != expected {
        return Err(AgentError::OtherMessage { expected, found: kind });
    }
    Ok(answer.split_off(1))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use ed25519_dalek::{Signer, SigningKey};
    use proptest::prelude::*;

    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn text(parts: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in parts {
            part.encode(&mut bytes).unwrap();
        }
        bytes
    }

    fn blob(kind: &str) -> Vec<u8> {
        text(&[kind.as_bytes(), key().verifying_key().as_bytes()])
    }

    fn listed(identities: &[(&str, &str)]) -> Vec<u8> {
        let mut answer = vec![IDENTITIES_ANSWER];
        (identities.len() as u32).encode(&mut answer).unwrap();
        for (kind, comment) in identities {
            answer.extend(text(&[&blob(kind), comment.as_bytes()]));
        }
        text(&[&answer])
    }

    /// An agent that gives these answers, one after the other, whatever it is asked.
    fn agent(answers: Vec<Vec<u8>>) -> UnixStream {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            for answer in answers {
                let mut length = [0; 4];
                theirs.read_exact(&mut length).unwrap();
                let mut request = vec![0; u32::from_be_bytes(length) as usize];
                theirs.read_exact(&mut request).unwrap();
                theirs.write_all(&answer).unwrap();
            }
        });
        ours
    }

    fn find(answer: Vec<u8>, wanted: &str) -> Result<AgentKey, AgentError> {
        AgentKey::find_at(agent(vec![answer]), wanted)
    }

    #[test]
    fn a_key_is_found_by_comment_or_fingerprint() {
        let two = [("ssh-rsa", "a\x1b b"), (ED25519, "release key")];
        let found = find(listed(&two), "release key").unwrap();
        assert_eq!(found.public_key().to_pem(), PublicKey::from(key().verifying_key()).to_pem());
        let fingerprint = Identity { blob: blob(ED25519), comment: String::new() }.fingerprint();
        assert!(find(listed(&two), &fingerprint).is_ok());

        let other = find(listed(&two), "other").unwrap_err().to_string();
        assert!(other.contains(&format!("{fingerprint} release key")) && other.contains("a? b"), "{other}");
        assert!(matches!(find(listed(&two), "a\x1b b"), Err(AgentError::Kind { kind, .. }) if kind == "ssh-rsa"));
        let twice = [(ED25519, "x"), (ED25519, "x")];
        assert!(matches!(find(listed(&twice), "x"), Err(AgentError::SeveralKeys { found, .. }) if found.len() == 2));
        assert!(matches!(find(listed(&[]), "x"), Err(AgentError::NoKeys)));
    }

    #[test]
    fn only_a_signature_of_the_key_is_taken() {
        let sign = |answer: Vec<u8>| {
            let stream = agent(vec![listed(&[(ED25519, "x")]), text(&[&answer])]);
            AgentKey::find_at(stream, "x").unwrap().sign(b"message")
        };
        let response = |kind: &str, signature: &[u8]| {
            let mut answer = vec![SIGN_RESPONSE];
            answer.extend(text(&[&text(&[kind.as_bytes(), signature])]));
            answer
        };
        let right = key().sign(b"message").to_bytes();
        assert_eq!(sign(response(ED25519, &right)).unwrap(), right);
        for wrong in [
            response(ED25519, &key().sign(b"other").to_bytes()),
            response("ssh-rsa", &right),
            response(ED25519, &right[..63]),
        ] {
            assert!(matches!(sign(wrong), Err(AgentError::WrongSignature { .. })));
        }
        assert!(matches!(sign(vec![FAILURE]), Err(AgentError::Refused { .. })));
        assert!(matches!(sign(vec![6]), Err(AgentError::OtherMessage { expected: SIGN_RESPONSE, found: 6 })));
    }

    #[test]
    fn a_long_answer_and_a_broken_connection_are_told() {
        assert!(matches!(find(u32::MAX.to_be_bytes().to_vec(), "x"), Err(AgentError::TooLong { .. })));
        assert!(matches!(find(vec![0, 0], "x"), Err(AgentError::Broken(_))));
        assert!(matches!(find(vec![0; 4], "x"), Err(AgentError::Answer(_))));
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(mut answer in prop::collection::vec(any::<u8>(), 0..80)) {
            answer.insert(0, IDENTITIES_ANSWER);
            let _ = find(text(&[&answer]), "x");
        }
    }
}
