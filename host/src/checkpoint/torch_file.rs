//! PyTorch's `.pth`, `.pt` and `.bin`: a zip archive with one pickle that
//! names the tensors and one uncompressed file for each storage. Weights only:
//! no code of the pickle is executed (see [`super::pickle`]).
//!
//! Files written before PyTorch 1.6 are no zip archives and are refused.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use safetensors::Dtype;
use zip::{CompressionMethod, ZipArchive};

use super::error::CheckpointError;
use super::pickle::{Pickle, Value};
use super::tensors::{TensorInfo, TensorStore, WeightFile};

/// The largest pickle that is read, bytes: a few hundred per tensor is usual.
const MAX_PICKLE: u64 = 64 << 20;

/// Where training programs keep the weights in a file with more than weights (DeiT: `model`; DINO: `teacher`).
const WRAPPERS: [&str; 4] = ["state_dict", "model", "teacher", "model_state_dict"];

/// An entry of the archive: first byte, bytes.
type Place = (u64, u64);

/// Adds all tensors of the file to `store`.
///
/// # Errors
/// If it is no such archive, or holds no dictionary of plain tensors.
pub(super) fn read_into(store: &mut TensorStore, path: &Path) -> Result<(), CheckpointError> {
    let file = WeightFile::open(path)?;
    let (pickle, storages) = open_archive(path, &file)?;
    let weights = weights_of(&pickle, &file)?;
    let mut tensors = Vec::new();
    for (name, value) in pickle.entries(weights) {
        let Value::Tensor { storage, offset, shape, strides } = value else {
            let found = if let Value::Opaque(what) = value { what } else { "no tensor" };
            return Err(
                file.malformed(format!("`{name}` is {found}; only plain tensors are read, nothing is executed"))
            );
        };
        let Value::Storage { key, dtype } = pickle.value(*storage) else {
            return Err(file.malformed(format!("tensor `{name}` has no storage")));
        };
        if !is_contiguous(shape, strides) {
            return Err(
                file.malformed(format!("tensor `{name}` is stored transposed or with gaps (strides {strides:?})"))
            );
        }
        let &(start, available) = storages
            .get(key)
            .ok_or_else(|| file.malformed(format!("tensor `{name}` needs the storage `{key}`, which is missing")))?;
        let bytes = place_in_storage(*dtype, *offset, shape).filter(|(first, length)| first + length <= available);
        let Some((first, length)) = bytes else {
            return Err(file.malformed(format!("tensor `{name}` of shape {shape:?} is larger than its storage")));
        };
        let info = TensorInfo { dtype: *dtype, shape: shape.clone(), file: 0, offset: start + first, length };
        tensors.push((name.to_owned(), info));
    }
    store.add(file, tensors, BTreeMap::new())
}

/// The pickle of the archive, and where its storages are, by key.
fn open_archive(path: &Path, file: &WeightFile) -> Result<(Pickle, HashMap<String, Place>), CheckpointError> {
    let reader =
        File::open(path).map_err(|source| CheckpointError::Io { operation: "open", path: path.to_owned(), source })?;
    let damaged = |reason: zip::result::ZipError| {
        file.malformed(format!(
            "no zip archive as PyTorch 1.6 and later write ({reason}); load it there and save it again"
        ))
    };
    let mut archive = ZipArchive::new(BufReader::new(reader)).map_err(damaged)?;
    let mut pickle = None;
    let mut storages = HashMap::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?.into_owned();
        let size = entry.size();
        // Names are FOLDER/data.pkl, FOLDER/data/KEY, FOLDER/byteorder and the like.
        let Some((_, name)) = name.split_once('/') else {
            continue;
        };
        if name == "data.pkl" && size <= MAX_PICKLE {
            let mut bytes = Vec::new();
            entry
                .by_ref()
                .take(MAX_PICKLE)
                .read_to_end(&mut bytes)
                .map_err(|reason| file.malformed(reason.to_string()))?;
            pickle = Some(Pickle::read(&bytes).map_err(|reason| file.malformed(reason.to_string()))?);
        } else if name == "byteorder" {
            let mut order = String::new();
            entry.by_ref().take(16).read_to_string(&mut order).map_err(|reason| file.malformed(reason.to_string()))?;
            if order != "little" {
                return Err(file.malformed(format!("byte order `{order}`; little is expected")));
            }
        } else if let Some(key) = name.strip_prefix("data/") {
            let start = entry.data_start().filter(|_| entry.compression() == CompressionMethod::Stored);
            let start = start.ok_or_else(|| file.malformed(format!("the storage `{key}` is compressed")))?;
            storages.insert(key.to_owned(), (start, size));
        }
    }
    pickle
        .map(|pickle| (pickle, storages))
        .ok_or_else(|| file.malformed("the archive has no data.pkl of a credible size"))
}

/// The dictionary with the tensors: the whole pickle, or what one of the usual wrappers holds.
fn weights_of<'a>(pickle: &'a Pickle, file: &WeightFile) -> Result<&'a Value, CheckpointError> {
    let has_tensors = |value: &&Value| pickle.entries(value).any(|(_, value)| matches!(value, Value::Tensor { .. }));
    let root = pickle.root();
    let wrapped = WRAPPERS
        .iter()
        .filter_map(|wrapper| pickle.entries(root).find(|(key, _)| key == wrapper))
        .map(|(_, value)| value);
    std::iter::once(root).chain(wrapped).find(has_tensors).ok_or_else(|| {
        let keys: Vec<&str> = pickle.entries(root).map(|(key, _)| key).take(8).collect();
        file.malformed(format!(
            "no dictionary of tensors, at its root or under {}; its keys are {keys:?}",
            WRAPPERS.join(", ")
        ))
    })
}

/// Row-major without gaps; the stride of a dimension of one does not matter.
fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    shape.len() == strides.len()
        && shape.iter().zip(strides).rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected = expected.saturating_mul(size);
            fits
        })
}

/// First byte and bytes of a tensor in its storage.
fn place_in_storage(dtype: Dtype, offset: u64, shape: &[usize]) -> Option<Place> {
    let size = dtype.bitsize() as u64 / 8;
    let elements = shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64))?;
    let (first, length) = (offset.checked_mul(size)?, elements.checked_mul(size)?);
    first.checked_add(length).map(|_| (first, length))
}
