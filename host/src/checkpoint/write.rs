//! Writes a checkpoint back as one safetensors file under its own names, with
//! its heads and neurons in another order.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use headroom_device::model::Weights;
use headroom_device::model::safetensors::narrow;
use safetensors::Dtype;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::Checkpoint;
use super::error::CheckpointError;
use super::permute::{Permutation, Plan};
use super::safetensors_file::LENGTH_PREFIX;
use super::tensors::TensorInfo;

impl Checkpoint {
    /// Writes the checkpoint to `out`, its structures in the order of `permutation`, and returns the file's SHA-256.
    ///
    /// Tensors in `changed` are taken from there, before they are permuted. All tensors are written, also those that
    /// the description does not name, in their stored type; files of a
    /// sharded checkpoint become one. The file appears whole or not at all: it is written beside `out`, flushed to
    /// the disk and renamed. One tensor at a time is in memory.
    ///
    /// # Errors
    /// If the permutation does not fit the model, or reading or writing fails.
    pub fn write_permuted(
        &self,
        permutation: &Permutation,
        changed: &Weights,
        out: &Path,
    ) -> Result<[u8; 32], CheckpointError> {
        let plan = Plan::new(permutation, &self.description)?;
        let failed = |source: io::Error| CheckpointError::Io { operation: "write", path: out.to_owned(), source };
        let folder = match out.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // Temporary files are private by default; this one becomes an ordinary file (less the umask).
        let temporary = tempfile::Builder::new()
            .prefix(".headroom-")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(failed)?;

        let tensors = self.in_file_order();
        let mut file = Hashing { file: BufWriter::new(temporary), hash: Sha256::new() };
        file.write_all(&header(self.tensors().metadata(), &tensors).map_err(failed)?).map_err(failed)?;
        for (name, info) in &tensors {
            let mut bytes = match changed.get(name) {
                Some(tensor) => narrow(info.dtype, &tensor.data),
                None => self.tensors().bytes(info)?,
            };
            plan.reorder(name, &mut bytes, &info.shape, info.dtype.bitsize() / 8)?;
            file.write_all(&bytes).map_err(failed)?;
        }
        let Hashing { file, hash } = file;
        let temporary = file.into_inner().map_err(|error| failed(error.into_error()))?;
        temporary.as_file().sync_all().map_err(failed)?;
        temporary.persist(out).map_err(|error| failed(error.error))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(hash.finalize().into())
    }

    /// The order in which the safetensors library writes: larger types first, so that all are aligned, then by name.
    fn in_file_order(&self) -> Vec<(&str, &TensorInfo)> {
        let mut tensors: Vec<_> = self.tensors().iter().collect();
        tensors.sort_by(|(a_name, a), (b_name, b)| b.dtype.cmp(&a.dtype).then(a_name.cmp(b_name)));
        tensors
    }
}

/// The length of the JSON header and the header, padded with spaces to eight bytes.
fn header(metadata: &BTreeMap<String, String>, tensors: &[(&str, &TensorInfo)]) -> Result<Vec<u8>, io::Error> {
    let mut metadata = metadata.clone();
    metadata.entry("format".to_owned()).or_insert_with(|| "pt".to_owned());
    let mut entries = vec![("__metadata__", HeaderEntry::Metadata(&metadata))];
    let mut offset = 0;
    for (name, info) in tensors {
        let end = offset + info.length;
        entries
            .push((name, HeaderEntry::Tensor { dtype: info.dtype, shape: &info.shape, data_offsets: (offset, end) }));
        offset = end;
    }
    let mut json = Vec::new();
    serde_json::Serializer::new(&mut json).collect_map(entries)?;
    json.resize(json.len().next_multiple_of(LENGTH_PREFIX as usize), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    Ok(header)
}

#[derive(Serialize)]
#[serde(untagged)]
enum HeaderEntry<'a> {
    Metadata(&'a BTreeMap<String, String>),
    Tensor { dtype: Dtype, shape: &'a [usize], data_offsets: (u64, u64) },
}

/// Hashes what it writes.
struct Hashing<W> {
    file: W,
    hash: Sha256,
}

impl<W: Write> Hashing<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes)
    }
}
