//! The secret key: read with care, wiped after use, never shown.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use ed25519_dalek::{Signer, SigningKey};
use headroom_device::bundle::trust::PublicKey;
use zeroize::{Zeroize, Zeroizing};

use super::error::SigningError;

/// The environment variable that may hold the secret key, in PEM.
pub const SECRET_KEY_VARIABLE: &str = "HEADROOM_SIGNING_KEY";

/// No secret key in PEM is longer.
const MOST_BYTES: usize = 4096;

/// An ed25519 secret key. Its memory is wiped when it is dropped, and it has no text form but [`SecretKey::to_pem`].
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// A new key from the operating system's random bytes.
    ///
    /// # Errors
    /// If there are none.
    pub fn generate() -> Result<Self, SigningError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|source| SigningError::Random { source })?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// The key in the file `path` if one is named, else the one in [`SECRET_KEY_VARIABLE`].
    ///
    /// # Errors
    /// If there is none, it is no key, or others than its owner may read the file.
    pub fn find(path: Option<&Path>) -> Result<Self, SigningError> {
        match (path, std::env::var_os(SECRET_KEY_VARIABLE)) {
            (Some(path), _) => Self::read(path),
            (None, Some(value)) => Self::from_variable(value),
            (None, None) => Err(SigningError::NoSecretKey),
        }
    }

    /// Reads a file that nobody but its owner may read.
    ///
    /// # Errors
    /// If it cannot be read, is open to others, or holds no key.
    pub fn read(path: &Path) -> Result<Self, SigningError> {
        let failed = |source| SigningError::Read { path: path.to_path_buf(), source };
        let mut file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file")));
        }
        // Of the open file, so that nobody can exchange it in between.
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o177 != 0 {
            return Err(SigningError::Permissions { path: path.to_path_buf(), mode });
        }
        // A fixed size: a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new([0; MOST_BYTES]);
        let mut length = 0;
        loop {
            match file.read(&mut bytes[length..]).map_err(failed)? {
                0 => break,
                read => length += read,
            }
        }
        Self::from_pem(&bytes[..length], || format!("`{}`", path.display()))
    }

    fn from_variable(value: OsString) -> Result<Self, SigningError> {
        let bytes = Zeroizing::new(value.into_encoded_bytes());
        Self::from_pem(&bytes, || format!("the environment variable {SECRET_KEY_VARIABLE}"))
    }

    fn from_pem(bytes: &[u8], place: impl Fn() -> String) -> Result<Self, SigningError> {
        let refused = |source| SigningError::SecretKey { place: place(), source };
        let pem = std::str::from_utf8(bytes).map_err(|_| refused(ed25519_dalek::pkcs8::KeyError::Invalid.into()))?;
        let pem = pem.trim();
        if pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            return Err(SigningError::Encrypted { place: place() });
        }
        let mut pair = KeypairBytes::from_pkcs8_pem(pem).map_err(refused)?;
        let key = SigningKey::try_from(&pair).map_err(refused);
        pair.secret_key.zeroize();
        key.map(Self)
    }

    /// PKCS#8 in PEM, without the public key: OpenSSL 3.0 reads no other version.
    ///
    /// # Panics
    /// Never: the encoding of a key has a fixed length.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        let mut pair = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        let pem = pair.to_pkcs8_pem(LineEnding::LF).expect("a key of 32 bytes can be encoded");
        pair.secret_key.zeroize();
        pem
    }

    /// Its public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from(self.0.verifying_key())
    }

    /// The signature of `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// Names the public half.
impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("SecretKey").field(&format_args!("of {}", self.public_key().fingerprint())).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use proptest::prelude::*;

    use super::*;

    fn from_text(text: &str) -> Result<SecretKey, SigningError> {
        SecretKey::from_variable(text.into())
    }

    #[test]
    fn pem_is_read_as_written() {
        let key = SecretKey::generate().unwrap();
        let read = from_text(&format!("\n{}\n", *key.to_pem())).unwrap();
        assert_eq!(read.public_key(), key.public_key());
        assert_ne!(SecretKey::generate().unwrap().public_key(), key.public_key());
        assert!(key.public_key().signed(b"text", &key.sign(b"text")));
    }

    #[test]
    fn only_files_of_their_owner_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, SecretKey::generate().unwrap().to_pem().as_bytes()).unwrap();
        for (mode, accepted) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match SecretKey::read(&path) {
                Ok(_) => assert!(accepted, "{mode:o}"),
                Err(SigningError::Permissions { mode: found, .. }) => assert!(!accepted && found == mode, "{mode:o}"),
                Err(other) => panic!("{other}"),
            }
        }
        assert!(matches!(SecretKey::read(folder.path()), Err(SigningError::Read { .. })));
        assert!(matches!(SecretKey::read(&folder.path().join("no")), Err(SigningError::Read { .. })));
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let secret = "MC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";
        let broken = format!("-----BEGIN PRIVATE KEY-----\n{secret}%\n-----END PRIVATE KEY-----\n");
        for text in ["", secret, &broken, &SecretKey::generate().unwrap().public_key().to_pem()] {
            let error = from_text(text).unwrap_err();
            assert!(matches!(error, SigningError::SecretKey { .. }), "{text}");
            assert!(text.is_empty() || !format!("{error:?} {error}").contains(text));
        }
        let encrypted = from_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGb\n-----END ENCRYPTED PRIVATE KEY-----");
        assert!(matches!(encrypted, Err(SigningError::Encrypted { .. })));
        assert!(!format!("{:?}", SecretKey::generate().unwrap()).contains("PRIVATE"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(SecretKey::from_pem(&bytes, String::new).is_err());
        }
    }
}
