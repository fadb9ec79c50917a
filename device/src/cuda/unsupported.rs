//! What the GPU engine does not run.

/// Why a model or a rung cannot run on the GPU. The CPU engine runs all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    #[error("block {block} needs at least {fewest} query dimensions of a head, and the rung keeps {found}")]
    QueryDims { block: usize, fewest: usize, found: usize },
    #[error("block {block} merges tokens, which have no common place for rotary positions to turn them by")]
    MergingWithRotary { block: usize },
    #[error("the GPU engine keeps the first heads of a block, and place {place} of block {block} keeps head {head}")]
    NotTheFirstHeads { block: usize, place: usize, head: usize },
    #[error("the rung names correction {found}, and the model has {count}")]
    Correction { found: usize, count: usize },
    #[error("block {block} has {most} {structure}, and the rung asks for {found}")]
    TooMany { block: usize, structure: &'static str, most: usize, found: usize },
    #[error("the buffer {buffer} would have {values} values, more than a kernel can index")]
    TooLarge { buffer: &'static str, values: usize },
    #[error("tensor `{name}` has {found} values, expected {expected}")]
    Shape { name: String, expected: usize, found: usize },
    #[error(transparent)]
    Weights(#[from] crate::model::weights::WeightsError),
}
