//! Why a bundle is refused.

use std::path::PathBuf;

use headroom_shared::{IntegerModelError, StructureMapError};

use super::trust::TrustError;
use crate::engine::EngineError;
use crate::model::corrections::CorrectionsError;
use crate::model::weights::WeightsError;

/// Why a bundle is refused. Nothing of a refused bundle is used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The folder is not there or holds no manifest.
    #[error("`{path}` is not a bundle: it has no `{file}`")]
    NotABundle { path: PathBuf, file: &'static str },
    /// A file could not be read.
    #[error("cannot read `{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    /// The device's trust policy refuses it.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// What was signed and what is in the bundle are for different boards.
    #[error("the bundle is signed for the board `{signed}`, and its {what} is for `{found}`")]
    OtherBoard { signed: String, what: &'static str, found: String },
    /// The manifest differs from the hash beside it.
    #[error("the manifest was changed: its SHA-256 is {found}, `manifest.sha256` says otherwise")]
    ManifestChanged { found: String },
    /// The manifest is not what this version reads.
    #[error("the manifest cannot be read")]
    Manifest { source: serde_json::Error },
    /// The manifest is of another version.
    #[error("the bundle has manifest version {found}, this program reads version {readable}")]
    Version { found: u32, readable: u32 },
    /// A part that every bundle needs is not listed.
    #[error("the manifest does not list `{name}`")]
    MissingPart { name: &'static str },
    /// A part's name would leave the folder.
    #[error("the manifest lists `{name}`, which is not a plain file name")]
    PartName { name: String },
    /// A part has another size than the manifest says.
    #[error("`{name}` has {found} bytes, the manifest says {expected}")]
    PartSize { name: String, expected: u64, found: u64 },
    /// A part has another content than the manifest says.
    #[error("`{name}` was changed: its SHA-256 is {found}, the manifest says {expected}")]
    PartChanged { name: String, expected: String, found: String },
    /// The structure map is refused.
    #[error("`structure.map` is refused")]
    StructureMap(#[from] StructureMapError),
    /// The structure map belongs to other weights.
    #[error("`structure.map` permutes weights with SHA-256 {expected}, the bundle's weights have {found}")]
    OtherWeights { expected: String, found: String },
    /// The model description cannot be read.
    #[error("`model.json` cannot be read")]
    Description { source: serde_json::Error },
    /// Structure map and model description are of different models.
    #[error("`structure.map` and `model.json` disagree on {what}: {map} and {description}")]
    Disagreement { what: &'static str, map: u64, description: u64 },
    /// The board profile is refused.
    #[error("`board.toml` is refused")]
    Board(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The weights are not a valid safetensors file.
    #[error("`model.safetensors` cannot be read")]
    Weights(#[from] WeightsError),
    /// The corrections are not a valid file, or not of this ladder.
    #[error("`corrections.safetensors` cannot be read")]
    Corrections(#[from] CorrectionsError),
    /// The integer model is refused.
    #[error("`model.int8` is refused")]
    IntegerModel(#[from] IntegerModelError),
    /// The integer model was made from other weights, or has other sizes.
    #[error("`model.int8` was not made from the weights of this bundle")]
    OtherIntegerModel,
    /// The engine refuses the model.
    #[error("the model cannot be run")]
    Engine(#[from] EngineError),
}

impl BundleError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotABundle { .. } => Some("make a bundle with `host-prune --target BOARD --out DIR`".into()),
            Self::PartChanged { .. } | Self::ManifestChanged { .. } => {
                Some("copy the bundle again; a bundle must not be edited".into())
            }
            Self::Trust(error) => error.hint(),
            _ => None,
        }
    }
}
