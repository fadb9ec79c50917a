//! Positions at the input size: resampled learned grids and rotary tables.

use super::description::Description;
use super::weights::{Weights, WeightsError};

/// The learned positions at the description's input size, `[prefix_positions + rows * columns, embed_dim]`;
/// `None` for rotary models.
///
/// # Errors
/// If the position tensor is missing.
pub fn learned_positions(_description: &Description, _weights: &Weights) -> Result<Option<Vec<f32>>, WeightsError> {
    todo!("helper `engine`")
}

/// Cosine and sine tables of a rotary model, each `[rows * columns, head_dim]`; `None` for learned positions.
#[must_use]
pub fn rotary_tables(_description: &Description) -> Option<(Vec<f32>, Vec<f32>)> {
    todo!("helper `engine`")
}
