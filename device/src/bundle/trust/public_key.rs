//! Public keys: SPKI in PEM, as OpenSSL reads and writes them.

use std::fmt;

use ed25519_dalek::pkcs8::{DecodePublicKey, EncodePublicKey, spki};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::bundle::manifest::hex;

/// Why a text is no public key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublicKeyError {
    /// Not an ed25519 key in PEM.
    #[error("it is not an ed25519 public key in PEM, `-----BEGIN PUBLIC KEY-----`")]
    Form(#[source] spki::Error),
    /// A point of small order: signatures that hold for any message exist.
    #[error("it is a weak key")]
    Weak,
}

/// An ed25519 public key (RFC 8032).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Reads SPKI in PEM (RFC 8410): what `openssl pkey -pubout` writes.
    ///
    /// # Errors
    /// If it is something else, or a weak key.
    pub fn from_pem(pem: &str) -> Result<Self, PublicKeyError> {
        let key = VerifyingKey::from_public_key_pem(pem.trim()).map_err(PublicKeyError::Form)?;
        if key.is_weak() { Err(PublicKeyError::Weak) } else { Ok(Self(key)) }
    }

    /// SPKI in PEM.
    ///
    /// # Panics
    /// Never: the encoding of a key has a fixed length.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.0.to_public_key_pem(spki::der::pem::LineEnding::LF).expect("a key of 32 bytes can be encoded")
    }

    /// The SHA-256 of the SPKI in DER:
    /// `openssl pkey -pubin -in KEY.pub -outform DER | sha256sum` prints it.
    ///
    /// # Panics
    /// Never: the encoding of a key has a fixed length.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let der = self.0.to_public_key_der().expect("a key of 32 bytes can be encoded");
        Fingerprint(Sha256::digest(der.as_bytes()).into())
    }

    /// Whether the signature of `message` is this key's. Strict: keys and
    /// signatures for which implementations disagree are no valid ones.
    #[must_use]
    pub fn signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }
}

impl From<VerifyingKey> for PublicKey {
    fn from(key: VerifyingKey) -> Self {
        Self(key)
    }
}

/// What names a public key: [`PublicKey::fingerprint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&hex(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    #[test]
    fn pem_is_read_as_written_whatever_surrounds_it() {
        let key = PublicKey::from(SigningKey::from_bytes(&[7; 32]).verifying_key());
        assert_eq!(PublicKey::from_pem(&format!("\n{}\n\n", key.to_pem())).unwrap(), key);
        assert_eq!(PublicKey::from_pem(&key.to_pem().replace('\n', "\r\n")).unwrap(), key);
    }

    #[test]
    fn other_keys_are_refused() {
        for text in ["", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE", "-----BEGIN PUBLIC KEY-----"] {
            assert!(matches!(PublicKey::from_pem(text), Err(PublicKeyError::Form(_))), "{text}");
        }
        let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n-----END PRIVATE KEY-----\n";
        assert!(matches!(PublicKey::from_pem(private), Err(PublicKeyError::Form(_))));
        // The neutral element.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let weak = PublicKey(VerifyingKey::from_bytes(&neutral).unwrap());
        assert!(matches!(PublicKey::from_pem(&weak.to_pem()), Err(PublicKeyError::Weak)));
    }
}
