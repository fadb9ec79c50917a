//! Why the values of a model cannot be put into another basis.

use headroom_device::model::weights::WeightsError;
use safetensors::Dtype;

use crate::executor::ExecutorError;

/// Why the values of a model cannot be put into another basis.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeadBasisError {
    #[error("head {head} of block {block} finds values that are not finite")]
    NotFinite { block: usize, head: usize },
    #[error("`{name}` would have values that {dtype:?} cannot hold")]
    Range { name: String, dtype: Dtype },
    #[error("interrupted after {blocks} blocks")]
    Interrupted { blocks: usize },
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("the model failed")]
    Executor(#[from] ExecutorError),
}
