//! Rungs with what is known about them: cost, fidelity, predicted latency and energy.

use headroom_device::engine::EngineError;
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

/// Measures the fidelity of every rung on the embedder's images, against the
/// dense model, and predicts the rest for the board. Its time is known, so
/// that Ctrl-C waits for it: without it there is no bundle to write.
///
/// # Errors
/// If a rung is not a sub-network of the shape or cannot be run.
pub fn measure(
    shape: &ModelShape,
    ranking: &[u8],
    rungs: &[u32],
    embedder: &CpuEmbedder<'_>,
    board: &BoardProfile,
    progress: &dyn Progress,
) -> Result<Vec<Rung<'static>>, MeasureError> {
    let roofline = Roofline::new(board, shape.bytes_per_weight);
    let dense = embedder.embed(&SubNetwork::dense(shape))?;
    let mut measured = Vec::with_capacity(rungs.len());
    for (index, &steps) in rungs.iter().enumerate() {
        let sub_network = SubNetwork::after(shape, &ranking[..steps as usize])?;
        let fidelity = if steps == 0 {
            1.0
        } else {
            mean_cosine(&embedder.embed(&sub_network)?, &dense, embedder.embed_dim()).clamp(-1.0, 1.0) as f32
        };
        let work = Work::of(shape, &sub_network);
        let predicted = roofline.predict(work);
        measured.push(Rung {
            steps,
            macs: work.macs,
            weight_bytes: work.weight_bytes,
            fidelity,
            predicted_latency: predicted.latency,
            predicted_energy: predicted.energy,
            measured_latency: None,
            measured_energy: None,
            token_schedule: &NO_TOKEN_MERGING[..usize::from(shape.blocks)],
        });
        progress.done(index as u64 + 1);
    }
    Ok(measured)
}

/// The rungs for the report.
///
/// # Errors
/// If a rung is not a sub-network of the shape.
pub fn report(shape: &ModelShape, ranking: &[u8], rungs: &[Rung<'_>]) -> Result<Vec<RungReport>, ReplayError> {
    let dense_macs = rungs.first().map_or(1, |rung| rung.macs) as f64;
    let line = |(index, rung): (usize, &Rung<'_>)| {
        let sub_network = SubNetwork::after(shape, &ranking[..rung.steps as usize])?;
        Ok(RungReport {
            rung: index,
            steps: rung.steps,
            macs: rung.macs,
            macs_share: rung.macs as f64 / dense_macs,
            weight_bytes: rung.weight_bytes,
            heads: sub_network.counts().map(|(heads, _)| heads).sum(),
            neurons: sub_network.counts().map(|(_, neurons)| neurons).sum(),
            fidelity: rung.fidelity,
            predicted_ms: rung.predicted_latency.as_seconds() * 1e3,
            predicted_mj: rung.predicted_energy.as_joules() * 1e3,
        })
    };
    rungs.iter().enumerate().map(line).collect()
}
