//! Importance scores as the authors of SnapViT publish them, instead of scores
//! computed here: <https://github.com/WalterSimoncini/SnapViT>, folder `scores`.
//!
//! A file is what `torch.save` made of a dictionary: `mlp_scores` `[blocks,
//! neurons]` and `head_scores` `[blocks, heads]`, which hold the local term and
//! the searched factors together, so that they compare over all blocks;
//! `model_type` and `mlp_architecture` say which model they are for. The file
//! is read as data; the objects in it are not built.
//!
//! Limits: nothing in a file says from which weights its scores come. Two
//! models of one size cannot be told apart, so the name in the file is shown.

mod keep;

use std::path::{Path, PathBuf};

use headroom_device::model::Description;
use headroom_device::model::description::Mlp;

use crate::checkpoint::{CheckpointError, TensorStore, read_torch_root};
use crate::importance::Importance;
use crate::ranking::{Floors, Sparsity};

pub use keep::KeepCounts;

const MLP_SCORES: &str = "mlp_scores";
const HEAD_SCORES: &str = "head_scores";

/// The `mlp_architecture` of an MLP without a gate.
const PLAIN_MLP: &str = "standard";

/// Why a file of scores is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoresError {
    /// It cannot be read, or holds a NaN.
    #[error(transparent)]
    File(#[from] CheckpointError),
    /// It is another file of PyTorch's.
    #[error("{} holds no `{name}`, as a file of SnapViT scores does", path.display())]
    NoScores { path: PathBuf, name: &'static str },
    /// The scores are no table.
    #[error("`{name}` has the shape {found:?}, expected blocks and structures of a block")]
    NoTable { name: &'static str, found: Vec<usize> },
    /// A score that no importance can be.
    #[error("`{name}` of block {block} holds {value}: an importance is not negative")]
    Negative { name: &'static str, block: usize, value: f64 },
    /// The scores are of a model of another size.
    #[error("the scores are for {made_for} with {found}, the model has {expected}")]
    OtherModel { made_for: String, expected: String, found: String },
}

/// The scores of all structures, comparable over all blocks.
#[derive(Clone, Debug)]
pub struct SnapvitScores {
    /// What the file says it is for, such as `dino_vitb16`.
    pub model_type: Option<String>,
    gated: Option<bool>,
    importance: Importance,
}

impl SnapvitScores {
    /// Reads a file of scores.
    ///
    /// # Errors
    /// If the file is not one, or a score is not finite or negative.
    pub fn read(path: &Path) -> Result<Self, ScoresError> {
        let file = read_torch_root(path)?;
        let text = |name: &str| file.metadata().get(name).cloned();
        Ok(Self {
            model_type: text("model_type"),
            gated: text("mlp_architecture").map(|architecture| architecture != PLAIN_MLP),
            importance: Importance {
                neurons: table(&file, path, MLP_SCORES)?,
                heads: table(&file, path, HEAD_SCORES)?,
                ..Importance::default()
            },
        })
    }

    /// The scores as importance of the structures of this model.
    ///
    /// # Errors
    /// If the model has other numbers of blocks, heads or neurons, or another kind of MLP.
    pub fn for_model(&self, description: &Description) -> Result<&Importance, ScoresError> {
        let is_gated = matches!(description.blocks.first().map(|block| &block.mlp), Some(Mlp::Gated { .. }));
        let sizes = |blocks: usize, heads: usize, neurons: usize, gated: bool| {
            let gate = if gated { " gated" } else { "" };
            format!("{blocks} blocks of {heads} heads and {neurons}{gate} neurons")
        };
        let Importance { neurons, heads, .. } = &self.importance;
        let each = |scores: &[Vec<f64>]| scores.first().map_or(0, Vec::len);
        let expected = sizes(description.blocks.len(), description.heads, description.neurons, is_gated);
        let found = sizes(neurons.len(), each(heads), each(neurons), self.gated.unwrap_or(is_gated));
        if expected == found && heads.len() == neurons.len() {
            return Ok(&self.importance);
        }
        let made_for = self.model_type.as_ref().map_or_else(|| "a model".to_owned(), |name| format!("`{name}`"));
        Err(ScoresError::OtherModel { made_for, expected, found })
    }

    /// What the published code keeps of each block at a sparsity: exact counts, not rounded to the groups of the
    /// structure map.
    #[must_use]
    pub fn keep_counts(&self, sparsity: Sparsity, floors: Floors) -> KeepCounts {
        KeepCounts::new(&self.importance, sparsity, floors)
    }
}

/// A table of scores, block by block.
fn table(file: &TensorStore, path: &Path, name: &'static str) -> Result<Vec<Vec<f64>>, ScoresError> {
    let info = file.info(name).ok_or_else(|| ScoresError::NoScores { path: path.to_owned(), name })?;
    let &[blocks, each] = info.shape.as_slice() else {
        return Err(ScoresError::NoTable { name, found: info.shape.clone() });
    };
    if blocks == 0 || each == 0 {
        return Err(ScoresError::NoTable { name, found: info.shape.clone() });
    }
    let values = file.widened("SnapViT scores", name)?.data;
    let rows: Vec<Vec<f64>> = values.chunks(each).map(|row| row.iter().map(|&score| score.into()).collect()).collect();
    for (block, row) in rows.iter().enumerate() {
        if let Some(&value) = row.iter().find(|score| **score < 0.0) {
            return Err(ScoresError::Negative { name, block, value });
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
