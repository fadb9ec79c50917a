//! PyTorch's `.pth`, `.pt` and `.bin`: a pickle that names the tensors, and
//! their storages, as a zip archive ([`archive`]) or one after the other
//! ([`legacy`]). Weights only: no code of the pickle is executed (see
//! [`pickle`]).

mod archive;
mod legacy;
pub(super) mod pickle;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::Dtype;

use super::error::CheckpointError;
use super::tensors::{TensorInfo, TensorStore, WeightFile};
use pickle::{Pickle, Value};

/// The largest pickle that is read, bytes: a few hundred per tensor is usual.
const MAX_PICKLE: u64 = 64 << 20;

/// Where training programs keep the weights in a file with more than weights (DeiT: `model`; DINO: `teacher`).
const WRAPPERS: [&str; 4] = ["state_dict", "model", "teacher", "model_state_dict"];

/// A storage of the file: first byte, bytes.
type Place = (u64, u64);

/// Adds all tensors of the file to `store`.
///
/// # Errors
/// If it is no file of PyTorch's, or holds no dictionary of plain tensors.
pub(super) fn read_into(store: &mut TensorStore, path: &Path) -> Result<(), CheckpointError> {
    let torch = TorchFile::open(path)?;
    let mut tensors = Vec::new();
    for (name, value) in torch.pickle.entries(torch.weights()?) {
        tensors.push((name.to_owned(), torch.tensor(name, value)?));
    }
    store.add(torch.file, tensors, BTreeMap::new())
}

/// The tensors of the dictionary that is the root of the file, and as metadata
/// its texts: those that are one, and those that something else would be made
/// of (an `enum` of its value). Other entries are left aside.
///
/// # Errors
/// If it is no file of PyTorch's, or a tensor at its root is no plain tensor.
pub(crate) fn read_root(path: &Path) -> Result<TensorStore, CheckpointError> {
    let torch = TorchFile::open(path)?;
    let mut tensors = Vec::new();
    let mut texts = BTreeMap::new();
    for (name, value) in torch.pickle.entries(torch.pickle.root()) {
        if matches!(value, Value::Tensor { .. }) {
            tensors.push((name.to_owned(), torch.tensor(name, value)?));
        } else if let Some(text) = torch.pickle.text(value) {
            texts.insert(name.to_owned(), text.to_owned());
        }
    }
    let mut store = TensorStore::default();
    store.add(torch.file, tensors, texts)?;
    Ok(store)
}

/// An opened file: what the pickle says, and where the storages are, by key.
struct TorchFile {
    file: WeightFile,
    pickle: Pickle,
    storages: HashMap<String, Place>,
}

impl TorchFile {
    fn open(path: &Path) -> Result<Self, CheckpointError> {
        let file = WeightFile::open(path)?;
        let (pickle, storages) =
            if legacy::is_legacy(&file)? { legacy::read(&file)? } else { archive::read(path, &file)? };
        Ok(Self { file, pickle, storages })
    }

    /// The dictionary with the tensors: the whole pickle, or what one of the usual wrappers holds.
    fn weights(&self) -> Result<&Value, CheckpointError> {
        let Self { file, pickle, .. } = self;
        let has_tensors =
            |value: &&Value| pickle.entries(value).any(|(_, value)| matches!(value, Value::Tensor { .. }));
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

    /// Type, shape and place of the plain tensor that the entry `name` is.
    fn tensor(&self, name: &str, value: &Value) -> Result<TensorInfo, CheckpointError> {
        let Self { file, pickle, storages } = self;
        let Value::Tensor { storage, offset, shape, strides } = value else {
            let found = if let Value::Opaque { what, .. } = value { what } else { "no tensor" };
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
        Ok(TensorInfo { dtype: *dtype, shape: shape.clone(), file: 0, offset: start + first, length })
    }
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
