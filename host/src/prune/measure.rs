//! Rungs with what is known about them: cost, fidelity, predicted latency and energy.

use headroom_shared::roofline::{Roofline, Work};
use headroom_shared::shape::MAX_BLOCKS;
use headroom_shared::{BoardProfile, ModelShape, Rung, SubNetwork};

use super::report::{NeedReport, RungReport};

/// The schedule of a rung until its sub-network's is written to the map.
static NO_TOKEN_MERGING: [u8; MAX_BLOCKS] = [0; MAX_BLOCKS];

/// A rung, and how faithful it is without and with its correction.
#[derive(Clone, Debug)]
pub struct Measured {
    /// With the better of both fidelities.
    pub rung: Rung<'static>,
    /// With the original weights.
    pub uncorrected: f32,
    /// With the correction, where one was measured.
    pub corrected: Option<f32>,
    /// In f32, and of the integer engine to that: where the rung was measured in integers, which is then its fidelity.
    pub f32_fidelity: Option<f32>,
    pub fidelity_to_f32: Option<f32>,
    /// What a microcontroller needs for it.
    pub need: Option<NeedReport>,
}

impl Measured {
    /// Takes note of the fidelity with the rung's correction.
    pub fn correct(&mut self, fidelity: f32) {
        self.corrected = Some(fidelity);
        self.rung.fidelity = self.rung.fidelity.max(fidelity);
    }

    /// Takes note of the fidelity in integers, to the dense model and to the same rung, both in f32.
    pub fn in_integers(&mut self, fidelity: f32, to_f32: f32) {
        self.f32_fidelity = Some(self.rung.fidelity);
        self.fidelity_to_f32 = Some(to_f32);
        self.rung.fidelity = fidelity;
    }

    /// Whether the rung is to run with its correction.
    #[must_use]
    pub fn is_corrected(&self) -> bool {
        self.corrected.is_some_and(|corrected| corrected > self.uncorrected)
    }
}

/// The rung after so many `steps`, with the fidelity of its original weights; the rest is predicted for the board.
#[must_use]
pub fn rung(
    shape: &ModelShape,
    steps: u32,
    sub_network: &SubNetwork,
    uncorrected: f32,
    board: &BoardProfile,
) -> Measured {
    let work = Work::of(shape, sub_network);
    let predicted = Roofline::new(board, shape.bytes_per_weight).predict(work);
    let rung = Rung {
        steps,
        macs: work.macs,
        weight_bytes: work.weight_bytes,
        fidelity: uncorrected,
        predicted_latency: predicted.latency,
        predicted_energy: predicted.energy,
        measured_latency: None,
        measured_energy: None,
        token_schedule: &NO_TOKEN_MERGING[..usize::from(shape.blocks)],
    };
    Measured { rung, uncorrected, corrected: None, f32_fidelity: None, fidelity_to_f32: None, need: None }
}

/// The rungs for the report.
#[must_use]
pub fn report(sub_networks: &[SubNetwork], measured: &[Measured]) -> Vec<RungReport> {
    let dense_macs = measured.first().map_or(1, |measured| measured.rung.macs) as f64;
    let line = |(index, (sub_network, measured)): (usize, (&SubNetwork, &Measured))| {
        let rung = &measured.rung;
        let blocks = || 0..sub_network.blocks();
        RungReport {
            rung: index,
            steps: rung.steps,
            macs: rung.macs,
            macs_share: rung.macs as f64 / dense_macs,
            weight_bytes: rung.weight_bytes,
            heads: sub_network.counts().map(|(heads, _)| heads).sum(),
            neurons: sub_network.counts().map(|(_, neurons)| neurons).sum(),
            query_dims: blocks().map(|block| sub_network.heads(block) * sub_network.query_dims(block)).sum(),
            value_dims: blocks().map(|block| sub_network.heads(block) * sub_network.value_dims(block)).sum(),
            token_schedule: sub_network.token_schedule().to_vec(),
            fidelity: rung.fidelity,
            uncorrected_fidelity: measured.uncorrected,
            corrected: measured.is_corrected(),
            f32_fidelity: measured.f32_fidelity,
            fidelity_to_f32: measured.fidelity_to_f32,
            need: measured.need,
            predicted_ms: rung.predicted_latency.as_seconds() * 1e3,
            predicted_mj: rung.predicted_energy.as_joules() * 1e3,
        }
    };
    sub_networks.iter().zip(measured).enumerate().map(line).collect()
}
