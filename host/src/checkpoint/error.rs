//! What can be wrong with a checkpoint.

use std::io;
use std::path::PathBuf;

use safetensors::Dtype;

use super::permute::PermutationError;

/// Why a checkpoint could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file system said no.
    #[error("cannot {operation} `{}`", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    /// Nothing that could be a checkpoint is at the path.
    #[error("no checkpoint at {}: {found}; expected {expected}", path.display())]
    NotFound { path: PathBuf, found: String, expected: &'static str },
    /// A weight file is truncated or not what its header says.
    #[error("{} is not a readable weight file: {reason}", path.display())]
    MalformedWeights { path: PathBuf, reason: String },
    /// The index names a shard that is not there.
    #[error("{} names the shard `{shard}` (for `{tensor}`), which is missing beside it", index.display())]
    MissingShard { index: PathBuf, shard: String, tensor: String },
    /// A config is not JSON of the expected form.
    #[error("{} is not a readable config: {reason}", path.display())]
    MalformedConfig { path: PathBuf, reason: String },
    /// The config has a value that no supported model has.
    #[error("config key `{key}`: expected {expected}, found {found}")]
    ConfigValue { key: &'static str, expected: String, found: String },
    /// The naming of the tensors, or what the config says, belongs to no supported family.
    #[error("unsupported model: {seen}; supported are {supported}; {needed}")]
    Unsupported { seen: String, supported: String, needed: String },
    /// Tensors do not tell the number of heads, and no config does either.
    #[error("{seen} does not tell how many attention heads a block has")]
    UnknownHeads { seen: String, embed_dim: usize },
    /// The number of heads does not divide the width.
    #[error("{heads} attention heads do not divide the width {width} of `{name}`")]
    HeadsDoNotDivide { heads: usize, width: usize, name: String },
    /// The asked image size is not a whole number of patches.
    #[error("image size {height}x{width} is not a multiple of the model's {patch}-pixel patches")]
    ImageSize { height: usize, width: usize, patch: usize },
    /// The family needs a tensor that the checkpoint lacks.
    #[error("{family} needs the tensor `{name}`, which the checkpoint lacks")]
    MissingTensor { family: String, name: String },
    /// The checkpoint has a tensor that the family does not know: ignoring it could change the function.
    #[error(
        "the tensor `{name}` has no place in {family}: expected only tensors of that family (is it a variant of it, or does config.json count fewer blocks?)"
    )]
    UnexpectedTensor { family: String, name: String },
    /// A tensor's shape is not what the config or the other tensors say.
    #[error("tensor `{name}` has the shape {found:?}, expected {expected:?}, as the config and the other tensors say")]
    WrongShape { name: String, expected: Vec<usize>, found: Vec<usize> },
    /// A weight is NaN or infinite.
    #[error("tensor `{name}` holds {value} at element {index}; expected finite weights")]
    NonFinite { name: String, index: usize, value: f32 },
    /// The tensor is stored in a type that is not widened to f32.
    #[error("tensor `{name}` is stored as {found:?}; expected F32, F16 or BF16")]
    UnsupportedDtype { name: String, found: Dtype },
    /// The permutation does not fit the model.
    #[error(transparent)]
    Permutation(#[from] PermutationError),
}

impl CheckpointError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownHeads { embed_dim, .. } => {
                Some(format!("say how many heads a block has with --heads; it divides {embed_dim}"))
            }
            Self::ImageSize { height, width, patch } => {
                let nearest = |side: usize| (side.max(*patch) + patch / 2) / patch * patch;
                Some(format!("the nearest size that fits is {}x{}", nearest(*height), nearest(*width)))
            }
            Self::MissingShard { .. } => Some("download the checkpoint again, with all of its files".to_owned()),
            Self::MalformedWeights { .. } => Some("the file may be damaged or cut off: download it again".to_owned()),
            _ => None,
        }
    }
}
