//! What can be wrong with an arena, or with a request to run a model.

/// Errors of [`IntegerVit`](super::IntegerVit).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IntegerEngineError {
    /// See [`arena_bytes`](super::arena_bytes).
    #[error("the arena has {found} bytes, the model needs {needed}")]
    Arena { needed: usize, found: usize },
    /// The workspace was made for a model of other sizes.
    #[error("the workspace was made for another model")]
    Workspace,
    /// The frame is not RGB of the model's input size.
    #[error("the frame has {found} bytes, expected {expected}")]
    Frame { expected: usize, found: usize },
    /// The sub-network keeps more of a block than is stored, or less than is needed.
    #[error("block {block}: {found} {structure} were selected, {fewest} to {most} can be")]
    Selection { block: usize, structure: &'static str, fewest: usize, most: usize, found: usize },
    /// At most half of the patch tokens that reach a block can be merged.
    #[error("block {block}: {found} tokens were to be merged, at most {most} can be")]
    MergedTokens { block: usize, most: usize, found: usize },
    /// A merged token has no position to be turned by.
    #[error("block {block}: tokens of a model with rotary positions cannot be merged")]
    MergingWithRotary { block: usize },
    /// The kept heads are no prefix.
    #[error("block {block}: head {head} was selected at place {place}; only the first heads can be")]
    Head { block: usize, place: usize, head: usize },
    /// The sub-network names a correction that the model does not have.
    #[error("correction {found} was selected, the model has {count}")]
    Correction { count: usize, found: usize },
    /// The sub-network runs the original layers, and the model has only corrected ones.
    #[error("a sub-network without correction was selected, the model has corrected layers only")]
    NoOriginalEnds,
    /// Room for an output of another size.
    #[error("there is room for {found} values of the {output}, it has {expected}")]
    Output { output: &'static str, expected: usize, found: usize },
}
