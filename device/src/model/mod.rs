//! What a model is: its description (sizes and parts, with the names of their
//! tensors) and its weights.

pub mod corrections;
pub mod description;
pub mod position;
pub mod safetensors;
pub mod weights;

pub use corrections::Corrections;
pub use description::Description;
pub use weights::Weights;
