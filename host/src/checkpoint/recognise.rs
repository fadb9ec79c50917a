//! Which family a checkpoint belongs to, told by its tensor names.

use serde_json::Value;

use super::error::CheckpointError;
use super::families::{FAMILIES, Family, unsupported};
use super::source::Document;
use super::tensors::TensorStore;

/// How many tensor names an error shows.
const NAMES_SHOWN: usize = 3;

/// The one family whose marks the checkpoint bears, and the prefix of its tensor names.
///
/// # Errors
/// If no family fits, or several do.
pub(super) fn recognise(
    tensors: &TensorStore,
    config: Option<&Document>,
) -> Result<(&'static Family, String), CheckpointError> {
    let mut fitting = FAMILIES.iter().filter_map(|family| Some((family, prefix_of(family, tensors)?)));
    let Some(first) = fitting.next() else {
        let names: Vec<&str> = tensors.iter().map(|(name, _)| name).take(NAMES_SHOWN).collect();
        let architecture = config.and_then(architecture).unwrap_or_else(|| "no config.json that names one".to_owned());
        let seen = format!(
            "architecture {architecture}, {} tensors with names such as {}",
            tensors.iter().count(),
            names.join(", ")
        );
        let marks: Vec<String> = FAMILIES.iter().map(|family| family.marks.join(" with ")).collect();
        return Err(unsupported(seen, format!("needed are tensors of one of them: {}", marks.join("; "))));
    };
    if let Some((other, _)) = fitting.next() {
        let seen = format!("tensors of two families at once ({}; {})", first.0.name, other.name);
        return Err(unsupported(
            seen,
            "either the file holds several models, or it is a variant that no family covers",
        ));
    }
    Ok(first)
}

/// What stands before the marks of `family`, if all of them are there after the same prefix.
fn prefix_of(family: &Family, tensors: &TensorStore) -> Option<String> {
    let (first, others) = family.marks.split_first()?;
    tensors
        .iter()
        .filter_map(|(name, _)| name.strip_suffix(first))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        .find(|prefix| others.iter().all(|mark| tensors.info(&format!("{prefix}{mark}")).is_some()))
        .map(str::to_owned)
}

/// The name that timm's or transformers' config gives the model.
fn architecture(config: &Document) -> Option<String> {
    let config: Value = config.parse().ok()?;
    let name = [&config["architecture"], &config["architectures"][0], &config["model_type"]];
    Some(format!("`{}`", name.into_iter().find_map(Value::as_str)?))
}
