//! From image files to a model's input: finding, decoding and preprocessing.
//!
//! Used by `device-run` and, for calibration, by the host, so that both see the
//! same pixels. Decoding gives 8-bit RGB; preprocessing gives planar
//! `[3, height, width]` f32, normalised as the model's description says.
//!
//! Terms: the *evaluation* preprocessing is the one a model was evaluated with
//! (resize, centre crop, normalise), as opposed to the random crops used to
//! calibrate it.

mod decode;
mod folder;
mod jpeg;
mod normalization;
mod preprocess;
mod resize;
mod synthetic;

pub use decode::{DecodeError, ImageError, MAX_FILE_BYTES, MAX_PIXELS, decode_bytes, decode_file};
pub use folder::{FoundImages, SearchError, UnreadableEntry, find_images};
pub use image::RgbImage;
pub use normalization::Normalization;
pub use preprocess::{PreprocessError, Preprocessor};
pub use resize::{Crop, Resizer, Window};
pub use synthetic::SyntheticFrames;
