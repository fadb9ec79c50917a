//! Which family a checkpoint belongs to, told by its tensor names.

use super::error::CheckpointError;
use super::families::{FAMILIES, Family, unsupported};
use super::tensors::TensorStore;

/// How many tensor names an error shows.
const NAMES_SHOWN: usize = 3;

/// The one family whose mark the checkpoint bears.
///
/// # Errors
/// If no family fits, or several do.
pub(super) fn recognise(tensors: &TensorStore) -> Result<&'static Family, CheckpointError> {
    let fits = |family: &&Family| tensors.iter().any(|(name, _)| ends_with(name, family.mark));
    let fitting: Vec<&Family> = FAMILIES.iter().filter(fits).collect();
    match fitting.as_slice() {
        [family] => Ok(family),
        [] => {
            let names: Vec<&str> = tensors.iter().map(|(name, _)| name).take(NAMES_SHOWN).collect();
            let seen = format!("{} tensors with names such as {}", tensors.iter().count(), names.join(", "));
            let marks: Vec<&str> = FAMILIES.iter().map(|family| family.mark).collect();
            Err(unsupported(seen, format!("one of these tensors would be needed: {}", marks.join(", "))))
        }
        several => {
            let names: Vec<&str> = several.iter().map(|family| family.name).collect();
            let seen = format!("tensors of several families at once ({})", names.join("; "));
            Err(unsupported(seen, "keep only one model's tensors in the file"))
        }
    }
}

/// Whether `name` is `mark`, alone or after a prefix that ends with a dot.
fn ends_with(name: &str, mark: &str) -> bool {
    name.strip_suffix(mark).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
}
