//! The job of `host-prune`: from a checkpoint and images to a bundle.
//!
//! ```text
//! checkpoint ─> head basis ─> importance ─> search ─> ranking ─> ladder ─> compensation ─> ladder ─> bundle
//!                   ^             ^            ^                   ^             ^            ^
//!                images    images or views  images           other images     images    other images
//! ```
//! The stages are elsewhere; this module puts them in order, tells what they
//! do, keeps what an interrupted job needs to go on, and reports.

mod describe;
mod error;
mod images;
mod importance_file;
mod job;
mod measure;
mod method;
mod options;
mod report;

pub use describe::{DESCRIBE_VERSION, DescribeReport, describe};
pub use error::PruneError;
pub use job::{Ending, Remedy, run, run_on};
pub use method::{AttentionUnits, Method, TokenMerging};
pub use options::Options;
pub(crate) use report::with_prefix;
pub use report::{PruneReport, REPORT_VERSION, RungReport, StageReport};
