//! The tensors of a checkpoint by name: type, shape and raw bytes, read from
//! the files only when asked for, so that a two-tower checkpoint costs no more
//! memory than its vision tower.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use headroom_device::model::description::TensorRef;
use headroom_device::model::safetensors::widen;
use headroom_device::model::weights::Tensor;
use safetensors::Dtype;

use super::error::CheckpointError;

/// Where the bytes of a weight file are.
#[derive(Debug)]
enum Bytes {
    File(Mutex<File>),
    Memory(Cow<'static, [u8]>),
}

/// One weight file, readable at any offset.
#[derive(Debug)]
pub(super) struct WeightFile {
    pub(super) path: PathBuf,
    pub(super) length: u64,
    bytes: Bytes,
}

impl WeightFile {
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let failed = |operation| move |source| CheckpointError::Io { operation, path: path.to_owned(), source };
        let file = File::open(path).map_err(failed("open"))?;
        let length = file.metadata().map_err(failed("read the size of"))?.len();
        Ok(Self { path: path.to_owned(), length, bytes: Bytes::File(Mutex::new(file)) })
    }

    /// `name` stands for the path in messages.
    pub(super) fn in_memory(name: &str, bytes: Cow<'static, [u8]>) -> Self {
        Self { path: PathBuf::from(name), length: bytes.len() as u64, bytes: Bytes::Memory(bytes) }
    }

    /// Exactly `length` bytes from `offset` on.
    ///
    /// # Errors
    /// If the file has fewer; the length is compared before anything is allocated.
    pub(super) fn read(&self, offset: u64, length: u64) -> Result<Vec<u8>, CheckpointError> {
        let end = offset.checked_add(length).filter(|&end| end <= self.length);
        let (Some(end), Ok(count)) = (end, usize::try_from(length)) else {
            return Err(self.malformed(format!(
                "{length} bytes are expected at offset {offset}, the file has {} bytes",
                self.length
            )));
        };
        match &self.bytes {
            #[expect(clippy::cast_possible_truncation, reason = "both are at most the length of a slice in memory")]
            Bytes::Memory(bytes) => Ok(bytes[offset as usize..end as usize].to_vec()),
            Bytes::File(file) => {
                let mut bytes = vec![0; count];
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes)).map_err(|source| {
                    CheckpointError::Io { operation: "read weights from", path: self.path.clone(), source }
                })?;
                Ok(bytes)
            }
        }
    }

    pub(super) fn malformed(&self, reason: impl Into<String>) -> CheckpointError {
        CheckpointError::MalformedWeights { path: self.path.clone(), reason: reason.into() }
    }
}

/// What a weight file says about one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The stored type.
    pub dtype: Dtype,
    /// Row-major; empty for a scalar.
    pub shape: Vec<usize>,
    /// Which file of the checkpoint.
    pub(super) file: usize,
    /// First byte in that file.
    pub(super) offset: u64,
    /// Bytes.
    pub(super) length: u64,
}

/// All tensors of a checkpoint, over one or several files.
#[derive(Debug, Default)]
pub struct TensorStore {
    files: Vec<WeightFile>,
    tensors: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
}

impl TensorStore {
    /// Adds a file, its tensors (whose `file` is set here) and its metadata.
    ///
    /// # Errors
    /// If a tensor of that name is already there.
    pub(super) fn add(
        &mut self,
        file: WeightFile,
        tensors: Vec<(String, TensorInfo)>,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), CheckpointError> {
        for (name, mut info) in tensors {
            info.file = self.files.len();
            if self.tensors.contains_key(&name) {
                return Err(file.malformed(format!("the tensor `{name}` is in another file of the checkpoint too")));
            }
            self.tensors.insert(name, info);
        }
        self.metadata.extend(metadata);
        self.files.push(file);
        Ok(())
    }

    /// Type and shape of the tensor of that name.
    #[must_use]
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// How many values `tensor` (its rows, where it names some) has: 0 where it is absent, which no tensor that the
    /// description of a [`Checkpoint`](super::Checkpoint) names is.
    #[must_use]
    pub fn values(&self, tensor: &TensorRef) -> u64 {
        let Some(info) = self.info(&tensor.name) else { return 0 };
        let sizes = info.shape.iter().map(|&size| size as u64);
        match tensor.rows {
            Some((_, rows)) => rows as u64 * sizes.skip(1).product::<u64>(),
            None => sizes.product(),
        }
    }

    /// All tensors, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// The files' own key-value notes (`format: pt` and the like).
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The stored little-endian bytes of a tensor that this store listed.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn bytes(&self, info: &TensorInfo) -> Result<Vec<u8>, CheckpointError> {
        self.files[info.file].read(info.offset, info.length)
    }

    /// A tensor widened to f32, which is exact for all three types read.
    ///
    /// # Errors
    /// If it is missing (`family` says who needs it), is not stored as F32, F16 or BF16, or holds NaN or infinity.
    pub(crate) fn widened(&self, family: &str, name: &str) -> Result<Tensor, CheckpointError> {
        let info = self
            .info(name)
            .ok_or_else(|| CheckpointError::MissingTensor { family: family.to_owned(), name: name.to_owned() })?;
        let bytes = self.bytes(info)?;
        let data = widen(info.dtype, &bytes)
            .ok_or_else(|| CheckpointError::UnsupportedDtype { name: name.to_owned(), found: info.dtype })?;
        if let Some((index, &value)) = data.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(CheckpointError::NonFinite { name: name.to_owned(), index, value });
        }
        Ok(Tensor { shape: info.shape.clone(), data })
    }
}
