//! One size of the elastic model, with what is known about it.

use serde::{Deserialize, Serialize};

use crate::origin::{Origin, Sourced};
use crate::units::{Energy, TimeSpan};

/// A sub-network that was evaluated.
///
/// Every cost is that of one inference of one image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rung<'a> {
    /// The sub-network is what is left after so many steps of the ranking.
    pub steps: u32,
    /// As [`crate::cost::macs`] gives it.
    pub macs: u64,
    /// As [`crate::cost::weight_bytes`] gives it.
    pub weight_bytes: u64,
    /// Mean cosine similarity to the dense model's embedding, -1 to 1.
    pub fidelity: f32,
    /// From the board's roofline: estimated.
    pub predicted_latency: TimeSpan,
    /// From the board's roofline: estimated.
    pub predicted_energy: Energy,
    /// On the board, where it was measured.
    pub measured_latency: Option<TimeSpan>,
    /// On the board, where it was measured.
    pub measured_energy: Option<Energy>,
    /// How many tokens each block merges: one byte per block.
    pub token_schedule: &'a [u8],
}

impl Rung<'_> {
    /// The measured latency, or else the predicted one.
    #[must_use]
    pub fn latency(&self) -> Sourced<TimeSpan> {
        measured_or_predicted(self.measured_latency, self.predicted_latency)
    }

    /// The measured energy, or else the predicted one.
    #[must_use]
    pub fn energy(&self) -> Sourced<Energy> {
        measured_or_predicted(self.measured_energy, self.predicted_energy)
    }
}

fn measured_or_predicted<T>(measured: Option<T>, predicted: T) -> Sourced<T> {
    match measured {
        Some(value) => Sourced { value, origin: Origin::Measured },
        None => Sourced { value: predicted, origin: Origin::Estimated },
    }
}
