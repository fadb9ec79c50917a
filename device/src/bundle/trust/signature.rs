//! `manifest.sig`: who vouches for which manifest, for which board.
//!
//! Six lines of ASCII, each ended by one line feed, in this order and spelling:
//!
//! ```text
//! headroom bundle signature 1
//! board jetson-orin
//! release 12
//! manifest ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356
//! key 324be2dea8bc44461b0233e51fa48902ed6b1cc671e7739af2551e0bfe68f54e
//! signature 9fd17da91423a89c9d67f0970d84737652e1c178d9199c05d44aa43965a44ce3c9e30ab8defde9e18aca562bafb4f4e14c777ef0f1b4ad297f970e229b2e2504
//! ```
//!
//! | line | content |
//! |---|---|
//! | first | what the file is, and the version of its format |
//! | `board` | the board profile that the bundle was made for |
//! | `release` | the release counter: a decimal number of 32 bits that grows with every release |
//! | `manifest` | the SHA-256 of `manifest.json`, which lists every part with its own SHA-256 |
//! | `key` | the [`Fingerprint`] of the key |
//! | `signature` | ed25519 (RFC 8032) over the bytes of the five lines above, line feeds included |
//!
//! The first line is signed too: it is the context that keeps a signature of
//! anything else, or of another version, from being taken for one of a bundle.
//! Hexadecimal is lower-case. There is one way only to write a statement, so
//! that what was read is what was signed. The example is a real one: the
//! manifest is `{}` and a line feed, the secret key 32 bytes of 7.
//!
//! OpenSSL checks it too: `head -n 5 manifest.sig > signed`, the digits of the
//! last line as bytes in the file `signature`, then
//! `openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in signed -sigfile signature`.

use std::fmt::Write as _;

use super::public_key::{Fingerprint, PublicKey};
use crate::bundle::manifest::hex;

/// The file beside the manifest that holds its signature.
pub const SIGNATURE_FILE: &str = "manifest.sig";
/// The version of the format that this code writes and reads.
pub const SIGNATURE_VERSION: u32 = 1;
/// What a signature file begins with; the version follows.
pub const CONTEXT: &str = "headroom bundle signature ";
/// No signature file is longer.
pub const MOST_BYTES: u64 = 512;
/// The longest name of a board, as in a board profile.
pub const MOST_BOARD_BYTES: usize = 48;

/// Why bytes are no signature file. What was found is not repeated: nobody
/// vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureFormatError {
    /// Something else.
    #[error("it does not begin with `{CONTEXT}` and a version")]
    Context,
    /// Another version.
    #[error("it has version {found}, this program reads version {SIGNATURE_VERSION}")]
    Version { found: u32 },
    /// A line is missing, out of order or not spelled as expected.
    #[error("expected the line `{name}`, then {expected}")]
    Line { name: &'static str, expected: &'static str },
    /// Something follows the last line.
    #[error("something follows its last line")]
    Remainder,
    /// A board's name that the format cannot hold.
    #[error("the board's name is not 1 to {MOST_BOARD_BYTES} visible ASCII characters")]
    Board,
}

/// What a key vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    board: String,
    release: u32,
    manifest: [u8; 32],
    key: Fingerprint,
}

impl Statement {
    /// A statement of the key `key` about the manifest with the SHA-256 `manifest`.
    ///
    /// # Errors
    /// If `board` cannot be the name of a board.
    pub fn new(board: &str, release: u32, manifest: [u8; 32], key: Fingerprint) -> Result<Self, SignatureFormatError> {
        if !is_board_name(board) {
            return Err(SignatureFormatError::Board);
        }
        Ok(Self { board: board.to_owned(), release, manifest, key })
    }

    /// The board that the bundle is for.
    #[must_use]
    pub fn board(&self) -> &str {
        &self.board
    }

    /// The release counter.
    #[must_use]
    pub fn release(&self) -> u32 {
        self.release
    }

    /// The SHA-256 of the manifest.
    #[must_use]
    pub fn manifest(&self) -> &[u8; 32] {
        &self.manifest
    }

    /// Which key signs.
    #[must_use]
    pub fn key(&self) -> Fingerprint {
        self.key
    }

    /// The bytes that are signed.
    #[must_use]
    pub fn signed_text(&self) -> String {
        let Self { board, release, manifest, key } = self;
        let manifest = hex(manifest);
        format!("{CONTEXT}{SIGNATURE_VERSION}\nboard {board}\nrelease {release}\nmanifest {manifest}\nkey {key}\n")
    }
}

/// A statement and what claims to be its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedStatement {
    /// What is claimed.
    pub statement: Statement,
    /// Nothing is known of it before [`SignedStatement::is_by`].
    pub signature: [u8; 64],
}

impl SignedStatement {
    /// The content of a signature file.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = self.statement.signed_text();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "signature {}", hex(&self.signature));
        text
    }

    /// Reads the content of a signature file. Accepts exactly what [`SignedStatement::encode`] writes.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, SignatureFormatError> {
        let mut lines = Lines { rest: std::str::from_utf8(bytes).map_err(|_| SignatureFormatError::Context)? };
        let version = lines.value(CONTEXT).and_then(counter).ok_or(SignatureFormatError::Context)?;
        if version != SIGNATURE_VERSION {
            return Err(SignatureFormatError::Version { found: version });
        }
        let line = |name, expected| SignatureFormatError::Line { name, expected };
        let board = lines.value("board ").ok_or(line("board", "the name of a board"))?;
        let release = lines.value("release ").and_then(counter);
        let release = release.ok_or(line("release", "a decimal number of 32 bits"))?;
        let manifest = lines.value("manifest ").and_then(from_hex);
        let manifest = manifest.ok_or(line("manifest", "64 lower-case hexadecimal digits"))?;
        let key = lines.value("key ").and_then(from_hex);
        let key = Fingerprint(key.ok_or(line("key", "64 lower-case hexadecimal digits"))?);
        let signature = lines.value("signature ").and_then(from_hex);
        let signature = signature.ok_or(line("signature", "128 lower-case hexadecimal digits"))?;
        if !lines.rest.is_empty() {
            return Err(SignatureFormatError::Remainder);
        }
        Ok(Self { statement: Statement::new(board, release, manifest, key)?, signature })
    }

    /// Whether `key` signed the statement.
    #[must_use]
    pub fn is_by(&self, key: &PublicKey) -> bool {
        key.signed(self.statement.signed_text().as_bytes(), &self.signature)
    }
}

/// Whether a text can be a board's name in a signature file.
#[must_use]
pub fn is_board_name(name: &str) -> bool {
    (1..=MOST_BOARD_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

struct Lines<'a> {
    rest: &'a str,
}

impl<'a> Lines<'a> {
    /// What follows `name` on the next line.
    fn value(&mut self, name: &str) -> Option<&'a str> {
        let (line, rest) = self.rest.split_once('\n')?;
        self.rest = rest;
        line.strip_prefix(name)
    }
}

/// A number as `Display` writes it: no sign, no leading zero.
fn counter(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().filter(|number| number.to_string() == text)
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};
    use proptest::prelude::*;

    use super::*;
    use crate::bundle::manifest::sha256_hex;

    fn signed(board: &str, release: u32, manifest: [u8; 32]) -> (SignedStatement, PublicKey) {
        let secret = SigningKey::from_bytes(&[7; 32]);
        let public = PublicKey::from(secret.verifying_key());
        let statement = Statement::new(board, release, manifest, public.fingerprint()).unwrap();
        let signature = secret.sign(statement.signed_text().as_bytes()).to_bytes();
        (SignedStatement { statement, signature }, public)
    }

    /// Ed25519 signatures depend on key and message only, so these bytes never change within a version. OpenSSL accepts them.
    #[test]
    fn golden() {
        let manifest = from_hex(&sha256_hex(b"{}\n")).unwrap();
        let (signed, public) = signed("jetson-orin", 12, manifest);
        let expected = concat!(
            "headroom bundle signature 1\n",
            "board jetson-orin\n",
            "release 12\n",
            "manifest ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356\n",
            "key 324be2dea8bc44461b0233e51fa48902ed6b1cc671e7739af2551e0bfe68f54e\n",
            "signature 9fd17da91423a89c9d67f0970d84737652e1c178d9199c05d44aa43965a44ce3c9e30ab8defde9e18aca562bafb4f4e14c777ef0f1b4ad297f970e229b2e2504\n",
        );
        assert_eq!(signed.encode(), expected);
        assert_eq!(SignedStatement::decode(expected.as_bytes()), Ok(signed.clone()));
        assert!(signed.is_by(&public));
    }

    #[test]
    fn the_longest_file_is_within_the_limit() {
        let (signed, _) = signed(&"b".repeat(MOST_BOARD_BYTES), u32::MAX, [0xff; 32]);
        assert!(signed.encode().len() as u64 <= MOST_BYTES);
    }

    #[test]
    fn every_refusal_is_named() {
        let (signed, _) = signed("a", 12, [1; 32]);
        let right = signed.encode();
        let refused = |text: String| SignedStatement::decode(text.as_bytes()).unwrap_err();
        let at = |error| match error {
            SignatureFormatError::Line { name, .. } => name,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(String::new()), SignatureFormatError::Context);
        assert_eq!(refused(right.replacen("ture 1", "ture 2", 1)), SignatureFormatError::Version { found: 2 });
        assert_eq!(refused(right.replace("board a", "board ")), SignatureFormatError::Board);
        assert_eq!(refused(right.replace("board a", "board a b")), SignatureFormatError::Board);
        assert_eq!(
            refused(right.replace("board a", &format!("board {}", "a".repeat(49)))),
            SignatureFormatError::Board
        );
        for other in ["012", "+12", "-1", "4294967296", " 12", "12 ", ""] {
            assert_eq!(at(refused(right.replace("release 12", &format!("release {other}")))), "release");
        }
        assert_eq!(at(refused(right.replacen("0101", "01", 1))), "manifest");
        assert_eq!(at(refused(right.replacen("0101", "0A01", 1))), "manifest");
        assert_eq!(at(refused(right.replace("key ", "keys "))), "key");
        assert_eq!(at(refused(right[..right.len() - 1].to_owned())), "signature");
        assert_eq!(at(refused(right.replace('\n', "\r\n").replacen('\r', "", 1))), "release");
        assert_eq!(refused(format!("{right}\n")), SignatureFormatError::Remainder);
        assert!(SignedStatement::decode(&[0xff; 600]).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            board in "[!-~]{1,48}", release: u32, manifest: [u8; 32], key: [u8; 32], signature in prop::array::uniform32(any::<[u8; 2]>()),
        ) {
            let signature = signature.as_flattened().try_into().unwrap();
            let statement = Statement::new(&board, release, manifest, Fingerprint(key)).unwrap();
            let signed = SignedStatement { statement, signature };
            prop_assert_eq!(SignedStatement::decode(signed.encode().as_bytes()), Ok(signed));
        }

        /// Edited files: either refused, or a statement that is written as the same bytes and that nobody signed.
        #[test]
        fn no_other_bytes_are_a_signed_statement(
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3u8, any::<u8>()), 1..4),
        ) {
            let (signed, public) = signed("jetson-orin", 12, [3; 32]);
            let right = signed.encode().into_bytes();
            let mut bytes = right.clone();
            for (place, kind, byte) in edits {
                let place = place.index(bytes.len());
                match kind {
                    0 => bytes[place] = byte,
                    1 => bytes.insert(place, byte),
                    _ => drop(bytes.remove(place)),
                }
            }
            if let Ok(read) = SignedStatement::decode(&bytes) {
                prop_assert_eq!(read.encode().into_bytes(), bytes.clone());
                prop_assert_eq!(read.is_by(&public), bytes == right);
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(SignedStatement::decode(&bytes).is_err());
        }
    }
}
