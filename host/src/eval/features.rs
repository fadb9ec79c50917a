//! Embeddings as a safetensors file, for other tools.

use std::collections::HashMap;
use std::path::Path;

use headroom_device::bundle::Bundle;
use headroom_device::whole_file;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::EvalError;
use super::observation::Observations;

/// Writes `FOLDER/NAME.safetensors`: for each rung `rung.R.query` `[images, embed_dim]` f32 (and `rung.R.bank`), and
/// the labels `query.labels` (and `bank.labels`) `[images]` i64, numbers of the sorted sub-folders.
///
/// # Errors
/// If the file cannot be written; nothing half-written is left then.
pub(super) fn write(
    folder: &Path,
    name: &str,
    bundle: &Bundle,
    rungs: &[usize],
    bank: Option<&Observations>,
    query: &Observations,
) -> Result<(), EvalError> {
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (what, seen) in bank.map(|bank| ("bank", bank)).into_iter().chain([("query", query)]) {
        let labels = seen.labels.iter().flat_map(|&label| (label as i64).to_le_bytes()).collect();
        tensors.push((format!("{what}.labels"), Dtype::I64, vec![seen.labels.len()], labels));
        for (rung, seen_at) in rungs.iter().zip(&seen.rungs) {
            let rows = seen_at.pooled.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.push((format!("rung.{rung}.{what}"), Dtype::F32, vec![seen.labels.len(), seen.embed_dim], rows));
        }
    }
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(EvalError::Features)?;
    let metadata = HashMap::from([("bundle".to_owned(), bundle.hash().to_owned())]);
    let file = safetensors::serialize(views, Some(metadata)).map_err(EvalError::Features)?;
    let path = folder.join(format!("{name}.safetensors"));
    let write = || {
        std::fs::create_dir_all(folder)?;
        whole_file::write(&path, &file)
    };
    write().map_err(|source| EvalError::Write { path: path.clone(), source })
}
