//! Importance in a file, so that a resumed job need not compute it again.
//!
//! A safetensors file of f64 tensors `heads.N`, `neurons.N`, `value_dims.N` and
//! `query_dims.N`, with the
//! fingerprint of everything that the importance depends on as metadata. A
//! file with another fingerprint is not an error: importance is computed anew.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use headroom_device::whole_file;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::importance::Importance;

const FINGERPRINT: &str = "fingerprint";

/// Saves `importance`, all of it or nothing.
///
/// # Errors
/// If the file cannot be written.
pub fn save(path: &Path, importance: &Importance, fingerprint: &str) -> io::Result<()> {
    let bytes = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let named = |kind: &str, values: &[Vec<f64>]| {
        let name = |(block, values): (usize, &Vec<f64>)| (format!("{kind}.{block}"), values.len(), bytes(values));
        values.iter().enumerate().map(name).collect::<Vec<_>>()
    };
    let Importance { heads, neurons, value_dims, query_dims } = importance;
    let kinds = [("heads", heads), ("neurons", neurons), ("value_dims", value_dims), ("query_dims", query_dims)];
    let tensors = kinds.map(|(kind, values)| named(kind, values)).concat();
    let views = tensors
        .iter()
        .map(|(name, length, data)| Ok((name.as_str(), TensorView::new(Dtype::F64, vec![*length], data)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(io::Error::other)?;
    let metadata = HashMap::from([(FINGERPRINT.to_owned(), fingerprint.to_owned())]);
    let file = safetensors::serialize(views, Some(metadata)).map_err(io::Error::other)?;
    whole_file::write(path, &file)
}

/// The saved importance of a model with so many blocks, if there is one with
/// this fingerprint.
#[must_use]
pub fn load(path: &Path, blocks: usize, fingerprint: &str) -> Option<Importance> {
    let bytes = std::fs::read(path).ok()?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).ok()?;
    if metadata.metadata().as_ref()?.get(FINGERPRINT)? != fingerprint {
        return None;
    }
    let file = SafeTensors::deserialize(&bytes).ok()?;
    let values = |kind: &str, block: usize| -> Option<Vec<f64>> {
        let tensor = file.tensor(&format!("{kind}.{block}")).ok()?;
        let (chunks, rest) = tensor.data().as_chunks::<8>();
        (tensor.dtype() == Dtype::F64 && rest.is_empty())
            .then(|| chunks.iter().map(|b| f64::from_le_bytes(*b)).collect())
    };
    let all = |kind: &str| (0..blocks).map(|block| values(kind, block)).collect::<Option<Vec<_>>>();
    Some(Importance {
        heads: all("heads")?,
        neurons: all("neurons")?,
        // Not every method scores them.
        value_dims: all("value_dims").unwrap_or_default(),
        query_dims: all("query_dims").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_loaded_bit_for_bit_and_only_for_the_same_inputs() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("importance.safetensors");
        let importance = Importance {
            heads: vec![vec![0.1, f64::MIN_POSITIVE], vec![3.0e-300, 2.0]],
            neurons: vec![vec![1.0 / 3.0; 5], vec![0.0; 5]],
            value_dims: vec![vec![0.7; 4], vec![0.2; 4]],
            query_dims: vec![vec![0.1; 4], vec![0.6; 4]],
        };
        save(&path, &importance, "inputs").unwrap();
        let loaded = load(&path, 2, "inputs").unwrap();
        assert_eq!(loaded, importance);
        let whole_heads = Importance { value_dims: Vec::new(), query_dims: Vec::new(), ..importance };
        save(&path, &whole_heads, "inputs").unwrap();
        assert_eq!(load(&path, 2, "inputs"), Some(whole_heads));
        assert!(load(&path, 2, "other inputs").is_none());
        assert!(load(&path, 3, "inputs").is_none());
        std::fs::write(&path, "rubbish").unwrap();
        assert!(load(&path, 2, "inputs").is_none());
    }
}
