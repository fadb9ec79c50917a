//! Calibration images: where they come from and how they reach the model.
//!
//! Images are read from a folder or made by the built-in generator; no labels
//! are needed. From each image come either the pixels of the model's own
//! evaluation preprocessing or the views of DINO's multi-crop. Worker threads
//! load and crop ahead of the consumer, in image order.
//!
//! Every random choice is drawn from a stream of its own, derived from the seed,
//! the purpose and the number of the image: results depend on neither the
//! number of threads nor the order of work.

mod error;
mod event;
mod folder;
pub mod procedural;
mod random;
mod source;
mod supply;
mod views;

pub use error::CalibrationError;
pub use event::CalibrationEvent;
pub use folder::ImageFolder;
pub use procedural::ProceduralImages;
pub use source::{ImageSource, Loaded};
pub use supply::{Supply, default_workers};
pub use views::{CropScale, MultiCrop, ViewMaker};
