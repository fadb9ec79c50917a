//! The trust policy of a device: whose bundles it opens.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::public_key::{PublicKey, PublicKeyError};
use super::signature::{SignedStatement, is_board_name};

/// The version of the policy file that this code reads.
pub const POLICY_VERSION: u32 = 1;

/// Where a device keeps the releases that it does not go back behind, unless the policy says otherwise.
pub const DEFAULT_MINIMUM_RELEASE_FILE: &str = "/var/lib/headroom/minimum-release.toml";

/// Why a text is no trust policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not TOML, or a key is unknown, missing or of another type.
    #[error("{0}")]
    Form(Box<toml::de::Error>),
    /// Another version.
    #[error("it has version {found}, this program reads version {POLICY_VERSION}")]
    Version { found: u32 },
    /// A name that no signed bundle can carry.
    #[error("`{name}` cannot be the name of a board")]
    Board { name: String },
    /// It trusts nobody.
    #[error("it requires signatures and lists no `[[key]]`")]
    NoKeys,
    /// A key cannot be read.
    #[error("the key `{name}` cannot be read")]
    Key { name: String, source: PublicKeyError },
    /// Two entries would have to agree.
    #[error("the keys `{first}` and `{second}` have the same {what}")]
    SameKey { first: String, second: String, what: &'static str },
    /// No release lies in the range.
    #[error("the key `{name}` is trusted for no release: {releases}")]
    EmptyRange { name: String, releases: ReleaseRange },
}

/// The releases that a key may sign, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRange {
    /// The first.
    #[serde(default)]
    pub from: u32,
    /// The last.
    #[serde(default = "ReleaseRange::no_end")]
    pub to: u32,
}

impl ReleaseRange {
    /// Every release.
    pub const ALL: Self = Self { from: 0, to: u32::MAX };

    fn no_end() -> u32 {
        u32::MAX
    }

    /// Whether the range holds `release`.
    #[must_use]
    pub fn contains(self, release: u32) -> bool {
        (self.from..=self.to).contains(&release)
    }
}

impl Default for ReleaseRange {
    fn default() -> Self {
        Self::ALL
    }
}

impl fmt::Display for ReleaseRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (from, u32::MAX) => write!(formatter, "releases from {from}"),
            (from, to) => write!(formatter, "releases {from} to {to}"),
        }
    }
}

/// A key that the policy trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// For people.
    pub name: String,
    /// What verifies its signatures.
    pub public_key: PublicKey,
    /// What it may sign.
    pub releases: ReleaseRange,
}

/// Why a signature does not make a bundle trusted. The variants are in the order of the checks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Distrust {
    /// No key of the policy.
    #[error("it is signed with a key that the policy does not list: {key}")]
    UnknownKey { key: String },
    /// Names a trusted key that did not make it.
    #[error("its signature is not one of the key `{name}`: the signature file was changed or forged")]
    WrongSignature { name: String },
    /// The manifest is not the one that was signed.
    #[error("its manifest was changed: it has SHA-256 {found}, {signed} was signed")]
    ManifestChanged { signed: String, found: String },
    /// For another board.
    #[error("it is for the board `{found}`, this is a `{expected}`")]
    OtherBoard { expected: String, found: String },
    /// The key is not trusted for this release.
    #[error("it is release {release}; the key `{name}` is trusted for {releases}")]
    KeyNotForRelease { name: String, release: u32, releases: ReleaseRange },
    /// Older than the policy allows.
    #[error("it is release {release}; the policy accepts none before {minimum}")]
    BelowMinimum { release: u32, minimum: u32 },
}

/// Whose bundles a device opens. See the [module](super) for the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether bundles without a signature are refused.
    pub require: bool,
    /// The board that this device is; `None` where any will do.
    pub board: Option<String>,
    /// By board, the first release that is accepted.
    pub minimum_release: BTreeMap<String, u32>,
    /// Where the device keeps the releases that it does not go back behind.
    pub minimum_release_file: Option<PathBuf>,
    /// In the order of the file.
    pub keys: Vec<TrustedKey>,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    #[serde(rename = "version")]
    _version: u32,
    #[serde(default = "yes")]
    require: bool,
    board: String,
    #[serde(default)]
    minimum_release: BTreeMap<String, u32>,
    #[serde(default = "default_minimum_release_file")]
    minimum_release_file: PathBuf,
    #[serde(default, rename = "key")]
    keys: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    name: String,
    public_key: String,
    #[serde(default)]
    releases: ReleaseRange,
}

fn yes() -> bool {
    true
}

fn default_minimum_release_file() -> PathBuf {
    Path::new(DEFAULT_MINIMUM_RELEASE_FILE).to_path_buf()
}

impl Policy {
    /// Reads the text of a policy file.
    ///
    /// # Errors
    /// If it is no valid policy; nothing of it is used then.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        // The version first: another version may have other fields.
        let Versioned { version: found } = from_toml(text)?;
        if found != POLICY_VERSION {
            return Err(PolicyError::Version { found });
        }
        let file: PolicyFile = from_toml(text)?;
        if let Some(name) = file.minimum_release.keys().chain([&file.board]).find(|name| !is_board_name(name)) {
            return Err(PolicyError::Board { name: name.clone() });
        }
        if file.require && file.keys.is_empty() {
            return Err(PolicyError::NoKeys);
        }
        let mut keys: Vec<TrustedKey> = Vec::with_capacity(file.keys.len());
        for KeyEntry { name, public_key, releases } in file.keys {
            if releases.from > releases.to {
                return Err(PolicyError::EmptyRange { name, releases });
            }
            let public_key = match PublicKey::from_pem(&public_key) {
                Ok(key) => key,
                Err(source) => return Err(PolicyError::Key { name, source }),
            };
            for other in &keys {
                let same = [("name", other.name == name), ("public key", other.public_key == public_key)];
                if let Some((what, _)) = same.into_iter().find(|(_, same)| *same) {
                    return Err(PolicyError::SameKey { first: other.name.clone(), second: name, what });
                }
            }
            keys.push(TrustedKey { name, public_key, releases });
        }
        Ok(Self {
            require: file.require,
            board: Some(file.board),
            minimum_release: file.minimum_release,
            minimum_release_file: Some(file.minimum_release_file),
            keys,
        })
    }

    /// A policy that trusts every release for every board by this one key.
    #[must_use]
    pub fn of_key(name: &str, public_key: PublicKey) -> Self {
        let key = TrustedKey { name: name.to_owned(), public_key, releases: ReleaseRange::ALL };
        Self {
            require: true,
            board: None,
            minimum_release: BTreeMap::new(),
            minimum_release_file: None,
            keys: vec![key],
        }
    }

    /// Whether the policy trusts a bundle whose manifest has the SHA-256 `manifest`.
    ///
    /// # Errors
    /// Why not.
    pub fn judge(&self, signed: &SignedStatement, manifest: &[u8; 32]) -> Result<&TrustedKey, Distrust> {
        use crate::bundle::manifest::hex;

        let statement = &signed.statement;
        let Some(key) = self.keys.iter().find(|key| key.public_key.fingerprint() == statement.key()) else {
            return Err(Distrust::UnknownKey { key: statement.key().to_string() });
        };
        if !signed.is_by(&key.public_key) {
            return Err(Distrust::WrongSignature { name: key.name.clone() });
        }
        // From here on the key vouches for the statement.
        if statement.manifest() != manifest {
            return Err(Distrust::ManifestChanged { signed: hex(statement.manifest()), found: hex(manifest) });
        }
        if let Some(expected) = self.board.as_ref().filter(|board| *board != statement.board()) {
            return Err(Distrust::OtherBoard { expected: expected.clone(), found: statement.board().to_owned() });
        }
        let release = statement.release();
        if !key.releases.contains(release) {
            return Err(Distrust::KeyNotForRelease { name: key.name.clone(), release, releases: key.releases });
        }
        let minimum = self.minimum_release.get(statement.board()).copied().unwrap_or(0);
        if release < minimum {
            return Err(Distrust::BelowMinimum { release, minimum });
        }
        Ok(key)
    }
}

fn from_toml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, PolicyError> {
    toml::from_str(text).map_err(|error| PolicyError::Form(error.into()))
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};
    use proptest::prelude::*;

    use super::*;
    use crate::bundle::trust::signature::Statement;

    const MANIFEST: [u8; 32] = [9; 32];

    fn secret(number: u8) -> SigningKey {
        SigningKey::from_bytes(&[number; 32])
    }

    fn public(number: u8) -> PublicKey {
        PublicKey::from(secret(number).verifying_key())
    }

    fn entry(number: u8, more: &str) -> String {
        format!("[[key]]\nname = \"key {number}\"\npublic_key = \"\"\"\n{}\"\"\"\n{more}\n", public(number).to_pem())
    }

    fn policy(top: &str, entries: &[String]) -> Result<Policy, PolicyError> {
        Policy::parse(&format!("version = 1\nboard = \"orin\"\n{top}\n{}", entries.concat()))
    }

    /// A statement that `signer` signed and that names `named` as its key.
    fn signed(signer: u8, named: u8, board: &str, release: u32) -> SignedStatement {
        let statement = Statement::new(board, release, MANIFEST, public(named).fingerprint()).unwrap();
        let signature = secret(signer).sign(statement.signed_text().as_bytes()).to_bytes();
        SignedStatement { statement, signature }
    }

    #[test]
    fn a_policy_with_every_key_is_read() {
        let top =
            "require = false\nminimum_release_file = \"/data/minimum.toml\"\nminimum_release = { orin = 7, nano = 3 }";
        let read = policy(top, &[entry(1, "releases = { from = 2, to = 9 }"), entry(2, "")]).unwrap();
        assert!(!read.require);
        assert_eq!(read.board.as_deref(), Some("orin"));
        assert_eq!(read.minimum_release, BTreeMap::from([("orin".into(), 7), ("nano".into(), 3)]));
        assert_eq!(read.minimum_release_file.as_deref(), Some(Path::new("/data/minimum.toml")));
        let names: Vec<_> = read.keys.iter().map(|key| (key.name.as_str(), key.releases)).collect();
        assert_eq!(names, [("key 1", ReleaseRange { from: 2, to: 9 }), ("key 2", ReleaseRange::ALL)]);
    }

    #[test]
    fn what_is_left_out_is_strict() {
        let read = policy("", &[entry(1, "")]).unwrap();
        assert!(read.require);
        assert_eq!(read.minimum_release_file.as_deref(), Some(Path::new(DEFAULT_MINIMUM_RELEASE_FILE)));
    }

    #[test]
    fn wrong_policies_are_refused() {
        let refused = |top: &str, entries: &[String]| policy(top, entries).unwrap_err();
        assert!(matches!(refused("", &[]), PolicyError::NoKeys));
        assert!(policy("require = false", &[]).is_ok());
        assert!(matches!(refused("requires = true", &[entry(1, "")]), PolicyError::Form(_)));
        assert!(matches!(refused("", &[entry(1, "release = { to = 3 }")]), PolicyError::Form(_)));
        assert!(matches!(refused("minimum_release = { orin = -1 }", &[entry(1, "")]), PolicyError::Form(_)));
        assert!(matches!(refused("minimum_release = { \"\" = 1 }", &[entry(1, "")]), PolicyError::Board { .. }));
        assert!(matches!(refused("", &[entry(1, "releases = { from = 3, to = 2 }")]), PolicyError::EmptyRange { .. }));
        assert!(matches!(refused("", &[entry(1, ""), entry(1, "")]), PolicyError::SameKey { what: "name", .. }));
        let renamed = entry(1, "").replace("key 1", "key 2");
        assert!(matches!(refused("", &[entry(1, ""), renamed]), PolicyError::SameKey { what: "public key", .. }));
        let broken = entry(1, "").replace("MCow", "MCox");
        assert!(matches!(refused("", &[broken]), PolicyError::Key { .. }));
        assert!(matches!(Policy::parse("version = 2\nwhatever = 1"), Err(PolicyError::Version { found: 2 })));
        assert!(matches!(Policy::parse("board = \"orin\""), Err(PolicyError::Form(_))));
        assert!(matches!(Policy::parse("version = 1"), Err(PolicyError::Form(_))));
    }

    #[test]
    fn each_distrust_has_its_reason() {
        let top = "minimum_release = { orin = 5, nano = 50 }";
        let policy = policy(top, &[entry(1, "releases = { to = 9 }"), entry(2, "")]).unwrap();
        let judge = |signed: SignedStatement| policy.judge(&signed, &MANIFEST).map(|key| key.name.clone());
        assert_eq!(judge(signed(1, 1, "orin", 5)), Ok("key 1".into()));
        assert_eq!(judge(signed(2, 2, "orin", 10)), Ok("key 2".into()));
        assert!(matches!(judge(signed(3, 3, "orin", 5)), Err(Distrust::UnknownKey { .. })));
        assert!(matches!(judge(signed(3, 1, "orin", 5)), Err(Distrust::WrongSignature { .. })));
        assert!(matches!(judge(signed(2, 1, "orin", 5)), Err(Distrust::WrongSignature { .. })));
        assert!(matches!(judge(signed(1, 1, "nano", 60)), Err(Distrust::OtherBoard { .. })));
        assert!(matches!(judge(signed(1, 1, "orin", 10)), Err(Distrust::KeyNotForRelease { .. })));
        assert!(matches!(judge(signed(1, 1, "orin", 4)), Err(Distrust::BelowMinimum { release: 4, minimum: 5 })));
        let other_manifest = policy.judge(&signed(1, 1, "orin", 5), &[8; 32]);
        assert!(matches!(other_manifest, Err(Distrust::ManifestChanged { .. })));
    }

    #[test]
    fn keys_are_rotated_without_a_day_on_which_nothing_is_trusted() {
        let only_old = policy("", &[entry(1, "")]).unwrap();
        let both = policy("", &[entry(1, ""), entry(2, "")]).unwrap();
        let only_new = policy("", &[entry(2, "")]).unwrap();
        let (old, new) = (signed(1, 1, "orin", 11), signed(2, 2, "orin", 12));
        let trusts = |policy: &Policy, signed| policy.judge(signed, &MANIFEST).is_ok();
        assert!(trusts(&only_old, &old) && !trusts(&only_old, &new));
        assert!(trusts(&both, &old) && trusts(&both, &new));
        assert!(!trusts(&only_new, &old) && trusts(&only_new, &new));
    }

    proptest! {
        #[test]
        fn only_trusted_releases_of_trusted_keys_are_accepted(
            signer in 1..4u8, named in 1..4u8, release in 0..12u32, minimum in 0..12u32, first in 0..12u32, length in 0..12u32,
            right_board: bool, right_manifest: bool,
        ) {
            let range = format!("releases = {{ from = {first}, to = {} }}", first + length);
            let policy = policy(&format!("minimum_release = {{ orin = {minimum} }}"), &[entry(1, &range), entry(2, "")]).unwrap();
            let signed = signed(signer, named, if right_board { "orin" } else { "nano" }, release);
            let accepted = policy.judge(&signed, if right_manifest { &MANIFEST } else { &[8; 32] }).is_ok();
            let in_range = named == 2 || (first..=first + length).contains(&release);
            let trusted = named < 3 && signer == named && right_board && right_manifest && in_range && release >= minimum;
            prop_assert_eq!(accepted, trusted);
        }
    }
}
