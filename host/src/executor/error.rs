//! What can go wrong when a description is loaded and run with candle.

use headroom_device::model::weights::WeightsError;

/// An error of the candle executor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecutorError {
    /// The description names a tensor that the weights do not have.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A tensor does not have the number of values that the description's sizes ask for.
    #[error("tensor `{name}` has {found} values, expected {expected}")]
    Size { name: String, expected: usize, found: usize },
    /// The prefix tokens and positions of a description contradict each other.
    #[error("{positions} prefix positions for {tokens} prefix tokens")]
    PrefixPositions { positions: usize, tokens: usize },
    /// The input is not a batch of images of the model's size.
    #[error("the model takes pixels [batch, {channels}, {height}, {width}], found {found:?}")]
    Pixels { channels: usize, height: usize, width: usize, found: Vec<usize> },
    /// Values that fill no whole images.
    #[error("{found} pixel values are no whole images of {pixels_per_image}")]
    WholeImages { pixels_per_image: usize, found: usize },
    /// A sub-network keeps more than the model has, or a head twice or out of order.
    #[error("block {block} cannot keep heads {heads:?} of {dense_heads} and {neurons} of {dense_neurons} neurons")]
    Kept { block: usize, heads: Vec<usize>, dense_heads: usize, neurons: usize, dense_neurons: usize },
    /// A correction that the model was not given.
    #[error("there is no correction {correction}: the model has {count}")]
    NoCorrection { correction: usize, count: usize },
    /// Corrections of a model with another number of blocks.
    #[error("group {group} of the corrections is for {found} blocks, expected {expected}")]
    CorrectedBlocks { group: usize, expected: usize, found: usize },
    /// Prefix tokens are never merged, and of the patches at most every other one.
    #[error("block {block}: {found} tokens were to be merged, at most {most} of its patch tokens can be")]
    MergedTokens { block: usize, most: usize, found: usize },
    /// A merged token has no position to turn its key by.
    #[error("block {block} was to merge tokens, which models with rotary positions cannot")]
    MergingWithRotary { block: usize },
    /// There is no device to run on.
    #[error("no device was given")]
    NoDevice,
    /// Candle failed: out of memory, a driver error.
    #[error("tensor operation failed")]
    Tensor(#[from] candle_core::Error),
}

/// The result of the executor's operations.
pub type Result<T> = std::result::Result<T, ExecutorError>;
