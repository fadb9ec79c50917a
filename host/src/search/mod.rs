//! The evolutionary fit of the factors: how blocks and heads compare across the network.
//!
//! ```text
//! fit ── asks ──> Strategy (Xnes)        proposes points of L + L*H numbers
//!  │
//!  ├── Evaluator
//!  │    ├── RemovalOrder (ranking)       a point and a sparsity give a Selection
//!  │    ├── Memo                         equal selections are run once
//!  │    ├── Embedder (the caller's)      a Selection gives the images' embeddings
//!  │    └── PcaFitness                   embeddings give a cosine, pruned against dense
//!  └── CheckpointFile                    after every evaluation, all that a resume needs
//! ```
//!
//! The loop, the strategy, the observer and the checkpoint know nothing of each
//! other but these seams. Fitness is maximised; 1 is the dense model.

mod checkpoint;
mod eigen;
mod embedder;
mod error;
mod evaluator;
mod event;
mod exact;
mod fingerprint;
mod fit;
mod fitness;
mod memo;
mod state;
mod stop;
mod strategy;
#[cfg(test)]
mod synthetic;
mod xnes;

pub use checkpoint::{CheckpointError, CheckpointFile};
pub use embedder::Embedder;
pub use error::FitError;
pub use event::FitEvent;
pub use fingerprint::Difference;
pub use fit::{FitOptions, Fitted, Problem, fit};
pub use fitness::{FitnessError, MAX_COMPONENTS, PcaFitness};
pub use memo::Statistics;
pub use stop::{Stagnation, StopReason};
pub use strategy::{Strategy, StrategyError};
pub use xnes::{Xnes, XnesOptions};
