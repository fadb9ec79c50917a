//! A release: a runtime and a bundle that belong together, as a list of files
//! with their hashes.
//!
//! On the device a release is a folder `releases/<hash>`:
//!
//! | file | content |
//! |---|---|
//! | `SHA256SUMS` | every other file with its SHA-256; `sha256sum -c` reads it. Its own SHA-256 is the name of the folder |
//! | `release.json` | what the release is, for people and programs ([`Description`]) |
//! | `bin/device-run` | the runtime |
//! | `bundle/` | the bundle: what its manifest lists, and the manifest with what seals it (`manifest.*`) |
//!
//! So the same input has the same name everywhere, and one hash proves a whole release.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use headroom_device::bundle::manifest::{Manifest, hex, sha256_hex};
use headroom_device::bundle::{BundleError, read_manifest};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::runtime_file::{self, Requirements, RuntimeFileError};

/// The version of `release.json`.
pub const RELEASE_VERSION: u32 = 1;

/// What a release is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// [`RELEASE_VERSION`].
    pub version: u32,
    /// The board that the bundle was made for.
    pub target: String,
    /// The model of the bundle.
    pub model: String,
    /// The bundle's hash.
    pub bundle: String,
    /// SHA-256 of the runtime.
    pub runtime: String,
}

/// Bytes that a device needs, named by their hash.
#[derive(Clone, Debug)]
pub struct Object {
    pub sha256: String,
    pub size: u64,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl Object {
    /// The bytes from `offset` on.
    ///
    /// # Errors
    /// If the file cannot be read any more.
    pub fn open(&self, offset: u64) -> io::Result<Box<dyn Read>> {
        match &self.content {
            Content::File(path) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(offset))?;
                Ok(Box::new(file))
            }
            Content::Bytes(bytes) => {
                let mut bytes = io::Cursor::new(bytes.clone());
                bytes.set_position(offset);
                Ok(Box::new(bytes))
            }
        }
    }
}

/// A release, ready to be sent.
#[derive(Clone, Debug)]
pub struct Release {
    /// The name: the SHA-256 of [`Release::sums`].
    pub hash: String,
    /// The content of `SHA256SUMS`.
    pub sums: String,
    /// Every content once.
    pub objects: Vec<Object>,
    pub description: Description,
    /// What the runtime needs.
    pub requirements: Requirements,
}

/// Why a release cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    #[error("cannot use the bundle `{}`", path.display())]
    Bundle { path: PathBuf, source: BundleError },
    #[error("cannot use the runtime")]
    Runtime(#[from] RuntimeFileError),
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the bundle holds a file with the name {name:?}: expected no control characters and no backslash")]
    Name { name: String },
}

impl Release {
    /// Puts a release together and checks every part against the bundle's manifest.
    ///
    /// # Errors
    /// If a file cannot be read or was changed, or the runtime is no program.
    pub fn of(bundle: &Path, runtime: &Path) -> Result<Self, ReleaseError> {
        let refused = |source| ReleaseError::Bundle { path: bundle.to_owned(), source };
        let (manifest, bundle_hash) = read_manifest(bundle).map_err(refused)?;
        let requirements = runtime_file::requirements(runtime)?;
        let mut files = vec![("bin/device-run".to_owned(), object_of(runtime)?)];
        let runtime_hash = files[0].1.sha256.clone();
        for name in names(bundle, &manifest)? {
            let object = object_of(&bundle.join(&name))?;
            if let Some(part) = manifest.part(&name) {
                part.check_size(object.size).and_then(|()| part.check_hash(&object.sha256)).map_err(refused)?;
            }
            files.push((format!("bundle/{name}"), object));
        }
        let description = Description {
            version: RELEASE_VERSION,
            target: manifest.target,
            model: manifest.model,
            bundle: bundle_hash,
            runtime: runtime_hash,
        };
        // One line, so that the device's shell can pass it on.
        let mut json = serde_json::to_vec(&description).expect("texts and a number are JSON");
        json.push(b'\n');
        let (sha256, size) = (sha256_hex(&json), json.len() as u64);
        files.push(("release.json".to_owned(), Object { sha256, size, content: Content::Bytes(json) }));
        files.sort_by(|a, b| a.0.cmp(&b.0));
        let sums: String = files.iter().map(|(path, object)| format!("{}  {path}\n", object.sha256)).collect();
        let mut objects: Vec<Object> = files.into_iter().map(|(_, object)| object).collect();
        objects.sort_by(|a, b| a.sha256.cmp(&b.sha256));
        objects.dedup_by(|a, b| a.sha256 == b.sha256);
        Ok(Self { hash: sha256_hex(sums.as_bytes()), sums, objects, description, requirements })
    }

    /// Bytes of all objects.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.objects.iter().map(|object| object.size).sum()
    }
}

/// What of a bundle's folder is sent: the listed parts, and the manifest with
/// its hash and signature. Other files are not the bundle's.
fn names(bundle: &Path, manifest: &Manifest) -> Result<Vec<String>, ReleaseError> {
    let read = |source| ReleaseError::Read { path: bundle.to_owned(), source };
    let mut names: Vec<String> = manifest.parts.iter().map(|part| part.name.clone()).collect();
    for entry in bundle.read_dir().map_err(read)? {
        let name = entry.map_err(read)?.file_name().to_string_lossy().into_owned();
        if name.starts_with("manifest.") && bundle.join(&name).is_file() {
            names.push(name);
        }
    }
    names.sort();
    names.dedup();
    // sha256sum has a notation of its own for such names.
    match names.iter().find(|name| name.chars().any(|c| c.is_control() || c == '\\')) {
        Some(name) => Err(ReleaseError::Name { name: name.clone() }),
        None => match names.iter().find(|name| name.contains('/') || [".", ".."].contains(&name.as_str())) {
            Some(name) => Err(ReleaseError::Bundle {
                path: bundle.to_owned(),
                source: BundleError::PartName { name: name.clone() },
            }),
            None => Ok(names),
        },
    }
}

fn object_of(path: &Path) -> Result<Object, ReleaseError> {
    let hash = || {
        let mut hasher = Sha256::new();
        let size = io::copy(&mut File::open(path)?, &mut Hashing(&mut hasher))?;
        Ok((size, hex(&hasher.finalize())))
    };
    let (size, sha256) = hash().map_err(|source| ReleaseError::Read { path: path.to_owned(), source })?;
    Ok(Object { sha256, size, content: Content::File(path.to_owned()) })
}

struct Hashing<'a>(&'a mut Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
