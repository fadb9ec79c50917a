//! Opening a bundle: hashes first, then meaning.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use headroom_shared::flash_image::Settings;
use headroom_shared::{BoardProfile, FlashImage, FlashImageError, IntegerModel, StructureMap, SubNetwork};
use sha2::{Digest, Sha256};

use super::error::BundleError;
use super::manifest::{
    BOARD_FILE, CORRECTIONS_FILE, DESCRIPTION_FILE, INTEGER_MODEL_FILE, MANIFEST_FILE, MANIFEST_HASH_FILE,
    MANIFEST_VERSION, Manifest, REQUIRED_PARTS, STRUCTURE_MAP_FILE, WEIGHTS_FILE, hash_file_content, hex, sha256_hex,
};
use super::read::read_at_most;
use super::trust::{Statement, Trust};
use crate::engine::{Corrected, ElasticVit};
use crate::model::{Corrections, Description, Weights};

/// No manifest is longer.
const MOST_MANIFEST_BYTES: u64 = 1 << 20;

/// A bundle whose every part was checked.
pub struct Bundle {
    manifest: Manifest,
    digest: [u8; 32],
    hash: String,
    statement: Option<Statement>,
    structure_map: Vec<u8>,
    description: Description,
    board: String,
    vit: ElasticVit,
    /// The correction of each rung.
    corrections: Vec<Option<usize>>,
    integer_model: Option<Vec<u8>>,
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
    /// then that the parts belong together, and packs the weights. Does not ask
    /// who made the bundle.
    ///
    /// # Errors
    /// If anything is missing, changed or does not fit; the error says what.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        Self::open_with(path, None)
    }

    /// [`Bundle::open`] for a bundle that `trust` admits. A bundle that it
    /// does not admit is refused before anything but its signature is parsed.
    ///
    /// # Errors
    /// If the bundle is not trusted, or anything is missing, changed or does not fit; the error says what.
    pub fn open_with(path: &Path, trust: Option<&Trust>) -> Result<Self, BundleError> {
        let manifest = manifest_bytes(path)?;
        let digest = Sha256::digest(&manifest).into();
        let statement = match trust {
            Some(trust) => trust.admit(path, &digest)?,
            None => None,
        };
        let hash = hex(&digest);
        let manifest = parse_manifest(path, &manifest, &hash)?;
        check_board(statement.as_ref(), "manifest", &manifest.target)?;
        let mut parts = read_parts(path, &manifest)?;
        // `read_manifest` refuses a manifest without these parts.
        let mut take = |name: &'static str| parts.remove(name).ok_or(BundleError::MissingPart { name });

        let structure_map = take(STRUCTURE_MAP_FILE)?;
        let weights_file = take(WEIGHTS_FILE)?;
        let description: Description =
            serde_json::from_slice(&take(DESCRIPTION_FILE)?).map_err(|source| BundleError::Description { source })?;
        let board = String::from_utf8(take(BOARD_FILE)?).map_err(|error| BundleError::Board(error.into()))?;
        let profile = headroom_shared::board_file::parse(&board).map_err(|error| BundleError::Board(error.into()))?;
        check_board(statement.as_ref(), BOARD_FILE, &profile.name)?;

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
        let integer_model = parts.remove(INTEGER_MODEL_FILE);
        if let Some(file) = &integer_model
            && !belongs(&IntegerModel::read(file)?, &StructureMap::read(&structure_map)?, &description, &vit)
        {
            return Err(BundleError::OtherIntegerModel);
        }
        Ok(Self {
            manifest,
            digest,
            hash,
            statement,
            structure_map,
            description,
            board,
            vit,
            corrections,
            integer_model,
        })
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

    /// The bytes of [`Bundle::hash`].
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// What was signed; `None` where no trust policy was asked or it let an unsigned bundle pass.
    #[must_use]
    pub fn statement(&self) -> Option<&Statement> {
        self.statement.as_ref()
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

    /// The integer model, where the bundle has one.
    ///
    /// # Panics
    /// Never: [`Bundle::open`] read the same bytes.
    #[must_use]
    pub fn integer_model(&self) -> Option<IntegerModel<'_>> {
        let read = |file| IntegerModel::read(file).expect("checked when the bundle was opened");
        self.integer_model.as_deref().map(read)
    }

    /// The [flash image](headroom_shared::flash_image) for firmware of `board`; `None` where the bundle has no integer
    /// model.
    ///
    /// # Errors
    /// If it is too large for the format.
    pub fn flash_image(&self, board: &BoardProfile) -> Result<Option<Vec<u8>>, FlashImageError> {
        let write = |model: &Vec<u8>| FlashImage::write(&Settings::of(board), &self.structure_map, model);
        self.integer_model.as_ref().map(write).transpose()
    }

    /// Weights and corrections as they are in the bundle's folder `path`, read again and checked as at opening.
    ///
    /// # Errors
    /// If they are no longer what the bundle's manifest lists.
    pub fn read_weights(&self, path: &Path) -> Result<(Weights, Corrections), BundleError> {
        let mut parts = read_parts(path, &self.manifest)?;
        let weights = parts.remove(WEIGHTS_FILE).ok_or(BundleError::MissingPart { name: WEIGHTS_FILE })?;
        let corrections = match parts.remove(CORRECTIONS_FILE) {
            Some(file) => Corrections::from_safetensors(&file, self.description.blocks.len(), self.corrections.len())?,
            None => Corrections::default(),
        };
        Ok((Weights::from_safetensors(&weights)?, corrections))
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

fn read(path: PathBuf, most: u64) -> Result<Vec<u8>, BundleError> {
    read_at_most(&path, most).map_err(|source| BundleError::Read { path, source })
}

/// Reads the manifest of the bundle in `folder` and checks it against the hash
/// beside it; returns it with that hash. The parts are not looked at.
///
/// # Errors
/// If it is missing, changed, of another version or lists too little.
pub fn read_manifest(folder: &Path) -> Result<(Manifest, String), BundleError> {
    let bytes = manifest_bytes(folder)?;
    let hash = sha256_hex(&bytes);
    Ok((parse_manifest(folder, &bytes, &hash)?, hash))
}

/// The bytes of the manifest, of which nothing is known yet.
fn manifest_bytes(folder: &Path) -> Result<Vec<u8>, BundleError> {
    for file in [MANIFEST_FILE, MANIFEST_HASH_FILE] {
        if !folder.join(file).is_file() {
            return Err(BundleError::NotABundle { path: folder.to_path_buf(), file });
        }
    }
    read(folder.join(MANIFEST_FILE), MOST_MANIFEST_BYTES)
}

fn parse_manifest(folder: &Path, bytes: &[u8], hash: &str) -> Result<Manifest, BundleError> {
    let beside = read(folder.join(MANIFEST_HASH_FILE), MOST_MANIFEST_BYTES)?;
    if beside != hash_file_content(bytes).into_bytes() {
        return Err(BundleError::ManifestChanged { found: hash.to_owned() });
    }
    // The version first: another version may have other fields.
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let found = serde_json::from_slice::<Versioned>(bytes).map_err(|source| BundleError::Manifest { source })?;
    if found.version != MANIFEST_VERSION {
        return Err(BundleError::Version { found: found.version, readable: MANIFEST_VERSION });
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|source| BundleError::Manifest { source })?;
    if let Some(name) = REQUIRED_PARTS.into_iter().find(|name| manifest.part(name).is_none()) {
        return Err(BundleError::MissingPart { name });
    }
    Ok(manifest)
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
        let path = folder.join(&part.name);
        let found = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(source) => return Err(BundleError::Read { path, source }),
        };
        part.check_size(found)?;
        let bytes = read(path, part.size)?;
        part.check_hash(&sha256_hex(&bytes))?;
        let name = part.name.as_str();
        if REQUIRED_PARTS.contains(&name) || [CORRECTIONS_FILE, INTEGER_MODEL_FILE].contains(&name) {
            kept.insert(part.name.clone(), bytes);
        }
    }
    Ok(kept)
}

fn check_board(statement: Option<&Statement>, what: &'static str, found: &str) -> Result<(), BundleError> {
    match statement {
        Some(statement) if statement.board() != found => {
            Err(BundleError::OtherBoard { signed: statement.board().to_owned(), what, found: found.to_owned() })
        }
        _ => Ok(()),
    }
}

fn check_weights_hash(map: &StructureMap<'_>, manifest: &Manifest) -> Result<(), BundleError> {
    let expected = hex(map.weights_sha256());
    let found = manifest.part(WEIGHTS_FILE).map(|part| part.sha256.clone()).unwrap_or_default();
    if expected == found { Ok(()) } else { Err(BundleError::OtherWeights { expected, found }) }
}

/// Whether the integer model is of these weights, with the inputs and outputs of the model in f32.
fn belongs(model: &IntegerModel<'_>, map: &StructureMap<'_>, description: &Description, vit: &ElasticVit) -> bool {
    let (sizes, image) = (model.sizes(), &description.image);
    let input = [sizes.image_height, sizes.image_width, sizes.patch, sizes.prefix_tokens];
    model.is_of(map)
        && input == [image.height, image.width, image.patch, description.prefix_tokens()]
        && image.channels == 3
        && sizes.embed_dim == vit.embed_dim()
        && sizes.classes == vit.classes().unwrap_or(0)
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
