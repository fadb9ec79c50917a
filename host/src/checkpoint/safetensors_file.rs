//! Headers of safetensors files: eight bytes of header length, a JSON header,
//! then the tensors without gaps.
//! <https://github.com/huggingface/safetensors#format>

use std::collections::BTreeMap;

use safetensors::tensor::Metadata;

use super::error::CheckpointError;
use super::tensors::{TensorInfo, TensorStore, WeightFile};

/// The format's own limit on the header, bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Bytes of the number before the header.
pub(super) const LENGTH_PREFIX: u64 = 8;

/// Adds all tensors of `file` to `store`.
pub(super) fn read_into(store: &mut TensorStore, file: WeightFile) -> Result<(), CheckpointError> {
    if file.length < LENGTH_PREFIX {
        return Err(file.malformed(format!("truncated: {} bytes are less than a header's length", file.length)));
    }
    let prefix = file.read(0, LENGTH_PREFIX)?;
    let header_length = prefix.iter().rev().fold(0, |length: u64, &byte| (length << 8) | u64::from(byte));
    if header_length > MAX_HEADER.min(file.length - LENGTH_PREFIX) {
        return Err(file.malformed(format!(
            "truncated, or no safetensors: the header should have {header_length} bytes, the file has {}",
            file.length
        )));
    }
    let header = file.read(LENGTH_PREFIX, header_length)?;
    let header: Metadata =
        serde_json::from_slice(&header).map_err(|reason| file.malformed(format!("its header is broken: {reason}")))?;

    let start = LENGTH_PREFIX + header_length;
    let expected = start + header.data_len() as u64;
    if expected != file.length {
        return Err(file.malformed(format!(
            "truncated or overlong: the header describes {expected} bytes, the file has {}",
            file.length
        )));
    }
    let tensors = header
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let (first, end) = info.data_offsets;
            let info = TensorInfo {
                dtype: info.dtype,
                shape: info.shape.clone(),
                file: 0,
                offset: start + first as u64,
                length: (end - first) as u64,
            };
            (name, info)
        })
        .collect();
    let metadata: BTreeMap<_, _> = header.metadata().clone().unwrap_or_default().into_iter().collect();
    store.add(file, tensors, metadata)
}
