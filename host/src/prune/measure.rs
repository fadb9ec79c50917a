//! Rungs with what is known about them: cost, fidelity, predicted latency and energy.

use headroom_device::engine::{Corrected, EngineError};
use headroom_shared::roofline::{Roofline, Work};
use headroom_shared::shape::MAX_BLOCKS;
use headroom_shared::{BoardProfile, ModelShape, ReplayError, Rung, SubNetwork};

use super::report::RungReport;
use crate::embedder::{CpuEmbedder, mean_cosine};
use crate::progress::Progress;

/// The schedule of a rung that merges no tokens.
static NO_TOKEN_MERGING: [u8; MAX_BLOCKS] = [0; MAX_BLOCKS];

/// Why a rung could not be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// The ranking does not fit the shape.
    #[error(transparent)]
    Ranking(#[from] ReplayError),
    /// The engine refuses the sub-network.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A rung, and how faithful it is without and with its correction.
#[derive(Clone, Debug)]
pub struct Measured {
    /// With the better of both fidelities.
    pub rung: Rung<'static>,
    /// With the original weights.
    pub uncorrected: f32,
    /// With the correction, where there is one.
    pub corrected: Option<f32>,
}

impl Measured {
    /// Whether the rung is to run with its correction.
    #[must_use]
    pub fn is_corrected(&self) -> bool {
        self.corrected.is_some_and(|corrected| corrected > self.uncorrected)
    }
}

/// Measures the fidelity of every rung on the embedder's images, against
/// `dense`, the original model's embeddings of them, without and with its correction, and predicts the rest for the
/// board. `corrections` are the rungs that the embedder's corrections are of.
///
/// Its time is known, so that Ctrl-C waits for it: without it there is no
/// bundle to write.
///
/// # Errors
/// If a rung is not a sub-network of the shape or cannot be run.
#[expect(clippy::too_many_arguments, reason = "what is measured, on what, and for which board")]
pub fn measure(
    shape: &ModelShape,
    ranking: &[u8],
    rungs: &[u32],
    corrections: &[usize],
    dense: &[f32],
    embedder: &CpuEmbedder<'_>,
    board: &BoardProfile,
    progress: &dyn Progress,
) -> Result<Vec<Measured>, MeasureError> {
    let roofline = Roofline::new(board, shape.bytes_per_weight);
    let mut measured = Vec::with_capacity(rungs.len());
    for (index, &steps) in rungs.iter().enumerate() {
        let sub_network = SubNetwork::after(shape, &ranking[..steps as usize])?;
        let fidelity_with = |correction: Option<usize>| -> Result<f32, EngineError> {
            let embeddings = embedder.embed(&Corrected { kept: &sub_network, correction })?;
            Ok(mean_cosine(&embeddings, dense, embedder.embed_dim()).clamp(-1.0, 1.0) as f32)
        };
        let uncorrected = fidelity_with(None)?;
        let correction = corrections.iter().position(|&rung| rung == index);
        let corrected = correction.map(|correction| fidelity_with(Some(correction))).transpose()?;
        let fidelity = corrected.map_or(uncorrected, |corrected| corrected.max(uncorrected));
        let work = Work::of(shape, &sub_network);
        let predicted = roofline.predict(work);
        let rung = Rung {
            steps,
            macs: work.macs,
            weight_bytes: work.weight_bytes,
            fidelity,
            predicted_latency: predicted.latency,
            predicted_energy: predicted.energy,
            measured_latency: None,
            measured_energy: None,
            token_schedule: &NO_TOKEN_MERGING[..usize::from(shape.blocks)],
        };
        measured.push(Measured { rung, uncorrected, corrected });
        progress.done(index as u64 + 1);
    }
    Ok(measured)
}

/// The rungs for the report.
///
/// # Errors
/// If a rung is not a sub-network of the shape.
pub fn report(shape: &ModelShape, ranking: &[u8], measured: &[Measured]) -> Result<Vec<RungReport>, ReplayError> {
    let dense_macs = measured.first().map_or(1, |measured| measured.rung.macs) as f64;
    let line = |(index, measured): (usize, &Measured)| {
        let rung = &measured.rung;
        let sub_network = SubNetwork::after(shape, &ranking[..rung.steps as usize])?;
        let blocks = || 0..sub_network.blocks();
        Ok(RungReport {
            rung: index,
            steps: rung.steps,
            macs: rung.macs,
            macs_share: rung.macs as f64 / dense_macs,
            weight_bytes: rung.weight_bytes,
            heads: sub_network.counts().map(|(heads, _)| heads).sum(),
            neurons: sub_network.counts().map(|(_, neurons)| neurons).sum(),
            query_dims: blocks().map(|block| sub_network.heads(block) * sub_network.query_dims(block)).sum(),
            value_dims: blocks().map(|block| sub_network.heads(block) * sub_network.value_dims(block)).sum(),
            fidelity: rung.fidelity,
            uncorrected_fidelity: measured.uncorrected,
            corrected: measured.is_corrected(),
            predicted_ms: rung.predicted_latency.as_seconds() * 1e3,
            predicted_mj: rung.predicted_energy.as_joules() * 1e3,
        })
    };
    measured.iter().enumerate().map(line).collect()
}
