//! One total order of removal over the quanta of all blocks.
//!
//! Terms: a *quantum* is what one step removes: a head, a group of 8 neurons, or
//! a group of 8 value or query dimensions of every head of a block (the group at
//! the end may be smaller and goes first). Its score is
//! its *importance*: the mean local score of its structures times a *factor*, one
//! for each MLP block and one for each head.
//!
//! Whether heads and neurons compare depends on their scores ([`Arrangement`]).
//! Where those are in one unit, an expected loss, the least loss per cost goes
//! first. The Fisher scores of heads and of neurons are unlike units and are never compared: a
//! global cut over both would remove almost all attention (Isomorphic Pruning,
//! arXiv 2407.04616). Each kind then has its own order over all blocks
//! ([`RemovalOrder`]); a [`SparsityPath`] says how far each kind has got at the
//! same time, and merging along it gives the one order of the [`Ranking`]. The
//! path passes through the sparsities of the search, so the sub-networks that the
//! search scored are exactly prefixes of the ranking.
//!
//! Nothing here knows a model: the input is numbers.

mod arrangement;
mod error;
mod factors;
mod floors;
mod order;
mod path;
pub(crate) mod quanta;
mod selection;
mod sparsity;

pub use arrangement::{Arrangement, RankBy, StructureCosts};
pub use error::RankingError;
pub use factors::Factors;
pub use floors::Floors;
pub use order::{Ranking, RemovalOrder};
pub use path::SparsityPath;
pub use quanta::Quanta;
pub use selection::Selection;
pub use sparsity::{Sparsities, Sparsity, SparsityError};
