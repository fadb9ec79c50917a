//! The table of contents of a bundle.
//!
//! `manifest.json` lists every part with its size and SHA-256, and
//! `manifest.sha256` holds the SHA-256 of `manifest.json` in the format of
//! `sha256sum -c`, so that a changed byte anywhere is found. The bundle's own
//! hash, its identity on a device, is the SHA-256 of `manifest.json`.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::BundleError;

/// The manifest version that this code writes and reads.
pub const MANIFEST_VERSION: u32 = 1;

/// The file that lists the parts.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The file that holds the SHA-256 of [`MANIFEST_FILE`].
pub const MANIFEST_HASH_FILE: &str = "manifest.sha256";
/// The structure map: shape, ranking and ladder.
pub const STRUCTURE_MAP_FILE: &str = "structure.map";
/// The permuted weights, under the names of the original checkpoint.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The [`Description`](crate::model::Description) of the model.
pub const DESCRIPTION_FILE: &str = "model.json";
/// What makes up for removed structures at some rungs ([`Corrections`](crate::model::Corrections)); not in every bundle.
pub const CORRECTIONS_FILE: &str = "corrections.safetensors";
/// The integer model, where the bundle has one ([`headroom_shared::integer_model`]).
pub const INTEGER_MODEL_FILE: &str = "model.int8";
/// The profile of the board that the ladder was predicted for.
pub const BOARD_FILE: &str = "board.toml";
/// The original checkpoint's config, so that other tools load the weights too.
pub const CONFIG_FILE: &str = "config.json";
/// Fidelity against MACs as a picture.
pub const CHART_FILE: &str = "ladder.svg";

/// The parts without which a bundle cannot run.
pub const REQUIRED_PARTS: [&str; 4] = [STRUCTURE_MAP_FILE, WEIGHTS_FILE, DESCRIPTION_FILE, BOARD_FILE];

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The file name, without a folder.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

impl Part {
    /// Whether a file of `found` bytes can be this part.
    ///
    /// # Errors
    /// If it cannot.
    pub fn check_size(&self, found: u64) -> Result<(), BundleError> {
        if found == self.size {
            return Ok(());
        }
        Err(BundleError::PartSize { name: self.name.clone(), expected: self.size, found })
    }

    /// Whether content with the SHA-256 `found` is this part.
    ///
    /// # Errors
    /// If it is not.
    pub fn check_hash(&self, found: &str) -> Result<(), BundleError> {
        if found == self.sha256 {
            return Ok(());
        }
        let (name, expected) = (self.name.clone(), self.sha256.clone());
        Err(BundleError::PartChanged { name, expected, found: found.to_owned() })
    }
}

/// What a bundle holds and what it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// The program that wrote the bundle, with its version.
    pub created_by: String,
    /// The name of the board profile.
    pub target: String,
    /// What the model was recognised as.
    pub model: String,
    /// The seed of the whole job.
    pub seed: u64,
    /// How the search ended.
    pub search: String,
    /// Sorted by name; the manifest itself is not among them.
    pub parts: Vec<Part>,
}

impl Manifest {
    /// The part of that name.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }
}

/// The SHA-256 of `bytes` in lower-case hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The exact content of [`MANIFEST_HASH_FILE`] for these manifest bytes.
#[must_use]
pub fn hash_file_content(manifest: &[u8]) -> String {
    format!("{}  {MANIFEST_FILE}\n", sha256_hex(manifest))
}
