//! Rotary positions of DINOv3: queries and keys of patch tokens are turned by their place.

use super::panel::{PANEL, PanelRow};
use crate::model::Description;
use crate::model::position::rotary_tables;

/// The rotation of each patch, for all heads alike.
#[derive(Clone, Debug)]
pub(super) struct Rotary {
    /// `[patches, head_dim]` each; both halves of a row are equal.
    cosines: Vec<f32>,
    sines: Vec<f32>,
    head_dim: usize,
    prefix_tokens: usize,
}

impl Rotary {
    pub(super) fn new(description: &Description) -> Option<Self> {
        let (cosines, sines) = rotary_tables(description)?;
        let (head_dim, prefix_tokens) = (description.head_dim, description.prefix_tokens());
        Some(Self { cosines, sines, head_dim, prefix_tokens })
    }

    /// Turns the patch tokens of one image: `x cos + [-x2, x1] sin` over the two halves of a head.
    ///
    /// `head` has panels of `rows` rows, of which those from `first` are the image's.
    pub(super) fn turn(&self, head: &mut [PanelRow], rows: usize, first: usize) {
        let half = self.head_dim / 2;
        let tables = self.cosines.chunks_exact(self.head_dim).zip(self.sines.chunks_exact(self.head_dim));
        for (patch, (cosines, sines)) in tables.enumerate() {
            let row = first + self.prefix_tokens + patch;
            for dimension in 0..half {
                let (low, high) = (dimension, dimension + half);
                let low = (low / PANEL * rows + row, low % PANEL);
                let high = (high / PANEL * rows + row, high % PANEL);
                let (x1, x2) = (head[low.0].0[low.1], head[high.0].0[high.1]);
                let (cosine, sine) = (cosines[dimension], sines[dimension]);
                head[low.0].0[low.1] = x1 * cosine - x2 * sine;
                head[high.0].0[high.1] = x2 * cosine + x1 * sine;
            }
        }
    }
}
