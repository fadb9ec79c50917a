//! Opening a bundle: hashes first, then meaning.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use headroom_shared::{StructureMap, SubNetwork};

use super::error::BundleError;
use super::manifest::{
    BOARD_FILE, CORRECTIONS_FILE, DESCRIPTION_FILE, MANIFEST_FILE, MANIFEST_HASH_FILE, MANIFEST_VERSION, Manifest,
    REQUIRED_PARTS, STRUCTURE_MAP_FILE, WEIGHTS_FILE, hash_file_content, hex, sha256_hex,
};
use crate::engine::{Corrected, ElasticVit};
use crate::model::{Corrections, Description, Weights};

/// A bundle whose every part was checked.
pub struct Bundle {
    manifest: Manifest,
    hash: String,
    structure_map: Vec<u8>,
    description: Description,
    board: String,
    vit: ElasticVit,
    /// The correction of each rung.
    corrections: Vec<Option<usize>>,
}

/// Identity only: the weights are millions of numbers.
impl fmt::Debug for Bundle {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let mut debug = formatter.debug_struct("Bundle");
        debug.field("hash", &self.hash).field("target", &self.manifest.target).finish_non_exhaustive()
    }
}

impl Bundle {
    /// Opens the bundle in the folder `path`: checks the hash of every part,
    /// then that the parts belong together, and packs the weights.
    ///
    /// # Errors
    /// If anything is missing, changed or does not fit; the error says what.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let (manifest, hash) = read_manifest(path)?;
        let mut parts = read_parts(path, &manifest)?;
        // `read_manifest` refuses a manifest without these parts.
        let mut take = |name: &'static str| parts.remove(name).ok_or(BundleError::MissingPart { name });

        let structure_map = take(STRUCTURE_MAP_FILE)?;
        let weights_file = take(WEIGHTS_FILE)?;
        let description: Description =
            serde_json::from_slice(&take(DESCRIPTION_FILE)?).map_err(|source| BundleError::Description { source })?;
        let board = String::from_utf8(take(BOARD_FILE)?).map_err(|error| BundleError::Board(error.into()))?;
        headroom_shared::board_file::parse(&board).map_err(|error| BundleError::Board(error.into()))?;

        let rungs = {
            let map = StructureMap::read(&structure_map)?;
            check_weights_hash(&map, &manifest)?;
            check_agreement(&map, &description)?;
            map.rungs().len()
        };
        let weights = Weights::from_safetensors(&weights_file)?;
        drop(weights_file);
        let mut vit = ElasticVit::new(&description, &weights)?;
        drop(weights);
        let mut corrections = vec![None; rungs];
        if let Some(file) = parts.remove(CORRECTIONS_FILE) {
            let found = Corrections::from_safetensors(&file, description.blocks.len(), rungs)?;
            for (number, (rung, ..)) in found.places().enumerate() {
                corrections[rung] = Some(number);
            }
            vit = vit.with_corrections(&found)?;
        }
        Ok(Self { manifest, hash, structure_map, description, board, vit, corrections })
    }

    /// What the bundle lists.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The SHA-256 of the manifest: the bundle's identity.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Shape, ranking and ladder.
    ///
    /// # Panics
    /// Never: [`Bundle::open`] read the same bytes.
    #[must_use]
    pub fn structure_map(&self) -> StructureMap<'_> {
        StructureMap::read(&self.structure_map).expect("checked when the bundle was opened")
    }

    /// What the model is.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The text of the board profile.
    #[must_use]
    pub fn board(&self) -> &str {
        &self.board
    }

    /// The sub-network of rung `rung` with the rung's correction, where it has one. A rung that is not on the ladder
    /// has none.
    #[must_use]
    pub fn corrected<'a>(&self, rung: usize, sub_network: &'a SubNetwork) -> Corrected<'a, SubNetwork> {
        Corrected { kept: sub_network, correction: self.corrections.get(rung).copied().flatten() }
    }

    /// The model, ready to run at any rung.
    #[must_use]
    pub fn vit(&self) -> &ElasticVit {
        &self.vit
    }
}

/// The hash of the bundle in the folder `path`, as its manifest is now; its parts are not looked at.
///
/// # Errors
/// If there is no valid manifest.
pub fn bundle_hash(path: &Path) -> Result<String, BundleError> {
    read_manifest(path).map(|(_, hash)| hash)
}

fn read(path: PathBuf) -> Result<Vec<u8>, BundleError> {
    std::fs::read(&path).map_err(|source| BundleError::Read { path, source })
}

fn read_manifest(folder: &Path) -> Result<(Manifest, String), BundleError> {
    for file in [MANIFEST_FILE, MANIFEST_HASH_FILE] {
        if !folder.join(file).is_file() {
            return Err(BundleError::NotABundle { path: folder.to_path_buf(), file });
        }
    }
    let bytes = read(folder.join(MANIFEST_FILE))?;
    let hash = sha256_hex(&bytes);
    if read(folder.join(MANIFEST_HASH_FILE))? != hash_file_content(&bytes).into_bytes() {
        return Err(BundleError::ManifestChanged { found: hash });
    }
    // The version first: another version may have other fields.
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let found = serde_json::from_slice::<Versioned>(&bytes).map_err(|source| BundleError::Manifest { source })?;
    if found.version != MANIFEST_VERSION {
        return Err(BundleError::Version { found: found.version, readable: MANIFEST_VERSION });
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|source| BundleError::Manifest { source })?;
    if let Some(name) = REQUIRED_PARTS.into_iter().find(|name| manifest.part(name).is_none()) {
        return Err(BundleError::MissingPart { name });
    }
    Ok((manifest, hash))
}

/// Reads and checks every listed part and keeps the ones that are needed to run.
fn read_parts(folder: &Path, manifest: &Manifest) -> Result<BTreeMap<String, Vec<u8>>, BundleError> {
    let mut kept = BTreeMap::new();
    for part in &manifest.parts {
        let mut components = Path::new(&part.name).components();
        let plain = matches!(components.next(), Some(std::path::Component::Normal(_))) && components.next().is_none();
        if !plain {
            return Err(BundleError::PartName { name: part.name.clone() });
        }
        let bytes = read(folder.join(&part.name))?;
        if bytes.len() as u64 != part.size {
            let found = bytes.len() as u64;
            return Err(BundleError::PartSize { name: part.name.clone(), expected: part.size, found });
        }
        let found = sha256_hex(&bytes);
        if found != part.sha256 {
            return Err(BundleError::PartChanged { name: part.name.clone(), expected: part.sha256.clone(), found });
        }
        if REQUIRED_PARTS.contains(&part.name.as_str()) || part.name == CORRECTIONS_FILE {
            kept.insert(part.name.clone(), bytes);
        }
    }
    Ok(kept)
}

fn check_weights_hash(map: &StructureMap<'_>, manifest: &Manifest) -> Result<(), BundleError> {
    let expected = hex(map.weights_sha256());
    let found = manifest.part(WEIGHTS_FILE).map(|part| part.sha256.clone()).unwrap_or_default();
    if expected == found { Ok(()) } else { Err(BundleError::OtherWeights { expected, found }) }
}

fn check_agreement(map: &StructureMap<'_>, description: &Description) -> Result<(), BundleError> {
    let shape = map.shape();
    let pairs = [
        ("blocks", u64::from(shape.blocks), description.blocks.len()),
        ("heads", u64::from(shape.heads), description.heads),
        ("head dimensions", u64::from(shape.head_dim), description.head_dim),
        ("neurons", u64::from(shape.neurons), description.neurons),
        ("token width", u64::from(shape.embed_dim), description.embed_dim),
        ("tokens", u64::from(shape.tokens), description.tokens()),
    ];
    for (what, map, described) in pairs {
        if map != described as u64 {
            return Err(BundleError::Disagreement { what, map, description: described as u64 });
        }
    }
    Ok(())
}
