//! What can be wrong with a model, or with a request to run it.

use crate::model::weights::WeightsError;

/// Errors of [`ElasticVit`](super::ElasticVit).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Too few query and key dimensions; rotary positions need all of them.
    #[error("block {block} cannot keep {found} query dimensions: the fewest are {fewest}")]
    QueryDims { block: usize, fewest: usize, found: usize },
    /// The description names a tensor that is not there.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A tensor has another shape than its part needs.
    #[error("tensor `{name}` has shape {found:?}, expected {expected}")]
    Shape {
        name: String,
        /// Such as `[384, 192]`, or `4 x 192 values` where any shape of that size will do.
        expected: String,
        found: Vec<usize>,
    },
    /// The description contradicts itself, or names sizes that the engine cannot run.
    #[error("the model description is inconsistent: {what}")]
    Description { what: String },
    /// The pixels are not `[batch, channels, height, width]` of the model's input size.
    #[error("{found} pixel values were given, {expected} make a batch of {batch}")]
    Pixels { batch: usize, expected: usize, found: usize },
    /// The batch is empty or larger than the workspace.
    #[error("a batch of {found} was given, the workspace is made for 1 to {most}")]
    Batch { most: usize, found: usize },
    /// The workspace was made for a model of other sizes.
    #[error("the workspace was made for another model")]
    Workspace,
    /// A selection keeps more heads or neurons than a block has.
    #[error("block {block}: {found} {structure} were selected, it has {most}")]
    TooMany { block: usize, structure: &'static str, most: usize, found: usize },
    /// A block would merge more than half of the patch tokens that reach it; prefix tokens are never merged.
    #[error("block {block}: {found} tokens were to be merged, at most {most} of its patch tokens can be")]
    MergedTokens { block: usize, most: usize, found: usize },
    /// Rotary positions turn a key by the place of its patch, and a merged token has no such place.
    #[error("block {block} was to merge tokens, which models with rotary positions cannot")]
    MergingWithRotary { block: usize },
    /// A selection names a correction that the model does not have.
    #[error("correction {found} was selected, the model has {count}")]
    Correction { count: usize, found: usize },
    /// The selected heads of a block are not ascending, or one is not in the model.
    #[error("block {block}: head {head} was selected at place {place}; heads must ascend and be below {heads}")]
    Head { block: usize, place: usize, head: usize, heads: usize },
}
