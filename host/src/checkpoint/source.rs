//! Finds the files of a checkpoint: weights, shards, config and preprocessing.
//!
//! A checkpoint is a folder as the hubs ship it (`model.safetensors`, or
//! `model.safetensors.index.json` with its shards, or any single
//! `*.safetensors`) or the path of one weight file. The config is
//! `STEM.config.json` or `config.json` beside the weights.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::CheckpointError;
use super::safetensors_file;
use super::tensors::{TensorStore, WeightFile};

const EXPECTED: &str = "a .safetensors file, or a folder with model.safetensors, \
                        model.safetensors.index.json and its shards, or one other .safetensors file";

/// What lies at the path.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) tensors: TensorStore,
    pub(super) config: Option<Document>,
    pub(super) preprocessor: Option<Document>,
}

/// A JSON file, not yet understood.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Document {
    pub(super) fn read(path: &Path) -> Result<Self, CheckpointError> {
        let text = fs::read_to_string(path).map_err(|source| CheckpointError::Io {
            operation: "read",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { path: path.to_owned(), text })
    }

    pub(super) fn parse<'de, T: Deserialize<'de>>(&'de self) -> Result<T, CheckpointError> {
        serde_json::from_str(&self.text)
            .map_err(|reason| CheckpointError::MalformedConfig { path: self.path.clone(), reason: reason.to_string() })
    }

    fn beside(weights: &Path, name: &str) -> Result<Option<Self>, CheckpointError> {
        let path = weights.with_file_name(name);
        if path.is_file() { Self::read(&path).map(Some) } else { Ok(None) }
    }
}

/// Finds and reads everything but the weights' bytes.
pub(super) fn find(path: &Path) -> Result<Source, CheckpointError> {
    let weights = if path.is_dir() { weights_in_folder(path)? } else { path.to_owned() };
    if !weights.is_file() {
        let found = if path.exists() { "not a file".to_owned() } else { "the path does not exist".to_owned() };
        return Err(CheckpointError::NotFound { path: path.to_owned(), found, expected: EXPECTED });
    }
    let mut tensors = TensorStore::default();
    match weights.extension().and_then(|extension| extension.to_str()) {
        Some("json") => read_shards(&weights, &mut tensors)?,
        Some("safetensors") => safetensors_file::read_into(&mut tensors, WeightFile::open(&weights)?)?,
        other => {
            let found = format!("a file with the extension `{}`", other.unwrap_or_default());
            return Err(CheckpointError::NotFound { path: weights, found, expected: EXPECTED });
        }
    }
    let stem = weights.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let config = match Document::beside(&weights, &format!("{stem}.config.json"))? {
        Some(config) => Some(config),
        None => Document::beside(&weights, "config.json")?,
    };
    let preprocessor = Document::beside(&weights, "preprocessor_config.json")?;
    Ok(Source { tensors, config, preprocessor })
}

/// The weight file, or the index of shards, of a folder.
fn weights_in_folder(folder: &Path) -> Result<PathBuf, CheckpointError> {
    for name in ["model.safetensors", "model.safetensors.index.json"] {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let entries = fs::read_dir(folder).map_err(|source| CheckpointError::Io {
        operation: "list",
        path: folder.to_owned(),
        source,
    })?;
    let mut weights: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    weights.sort();
    match weights.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            let found = "no weight file in the folder".to_owned();
            Err(CheckpointError::NotFound { path: folder.to_owned(), found, expected: EXPECTED })
        }
        [first, second, ..] => {
            let found = format!(
                "{} weight files, such as {} and {}; name one of them",
                weights.len(),
                first.display(),
                second.display()
            );
            Err(CheckpointError::NotFound { path: folder.to_owned(), found, expected: EXPECTED })
        }
    }
}

/// The index that the hubs put beside shards.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

fn read_shards(path: &Path, tensors: &mut TensorStore) -> Result<(), CheckpointError> {
    let document = Document::read(path)?;
    let index: Index = document.parse()?;
    let shards: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    for shard in shards {
        let missing = || CheckpointError::MissingShard {
            index: path.to_owned(),
            shard: shard.to_owned(),
            tensor: index
                .weight_map
                .iter()
                .find(|(_, file)| *file == shard)
                .map(|(name, _)| name.clone())
                .unwrap_or_default(),
        };
        // A shard lies beside its index: a name with a folder in it could point anywhere.
        if Path::new(shard).file_name().is_none_or(|name| name != shard) {
            return Err(missing());
        }
        let file = path.with_file_name(shard);
        if !file.is_file() {
            return Err(missing());
        }
        safetensors_file::read_into(tensors, WeightFile::open(&file)?)?;
    }
    for (name, shard) in &index.weight_map {
        if tensors.info(name).is_none() {
            return Err(CheckpointError::MalformedWeights {
                path: path.with_file_name(shard),
                reason: format!("the index says that it holds `{name}`, it does not"),
            });
        }
    }
    Ok(())
}
