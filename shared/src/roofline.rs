//! Latency and energy of an inference from the ceilings of a board, before it
//! ever ran there: the roofline model (Williams et al.,
//! doi 10.1145/1498765.1498785) with a fixed overhead.
//!
//! ```text
//! bytes   = weight bytes + activation bytes
//! latency = max(2 MACs / (peak operations * effective fraction),
//!               bytes  / (peak bandwidth  * effective fraction)) + overhead
//! energy  = idle power * latency + MACs * energy per MAC + bytes * energy per byte
//! ```
//! One image at a time, in the fastest power mode, on the processor that
//! `compute.processor` of the board names. It knows nothing of tiles, of small
//! matrices or of throttling: a prediction orders rungs well and is right to
//! tens of percent. Everything that shows one must call it estimated.

use crate::board::BoardProfile;
use crate::cost;
use crate::shape::ModelShape;
use crate::sub_network::SubNetwork;
use crate::units::{Energy, TimeSpan};

/// What one inference does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    pub macs: u64,
    pub weight_bytes: u64,
    pub activation_bytes: u64,
}

impl Work {
    /// The work of `sub_network`, as [`crate::cost`] counts it.
    #[must_use]
    pub fn of(shape: &ModelShape, sub_network: &SubNetwork) -> Self {
        Self {
            macs: cost::macs(shape, sub_network),
            weight_bytes: cost::weight_bytes(shape, sub_network),
            activation_bytes: cost::activation_bytes(shape, sub_network),
        }
    }
}

impl Work {
    /// All bytes that are moved.
    fn bytes(&self) -> f64 {
        self.weight_bytes as f64 + self.activation_bytes as f64
    }
}

/// What one inference is expected to take; its origin is always estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction {
    pub latency: TimeSpan,
    pub energy: Energy,
}

/// The ceilings of a board for one precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofline {
    macs_per_second: f64,
    bytes_per_second: f64,
    overhead_seconds: f64,
    idle_watts: f64,
    joules_per_mac: f64,
    joules_per_byte: f64,
}

impl Roofline {
    /// The roofline of a valid board ([`BoardProfile::validate`]) for weights of
    /// so many bytes ([`ModelShape::bytes_per_weight`]): 1 is int8, 2 is f16,
    /// all else f32.
    #[must_use]
    pub fn new(board: &BoardProfile, bytes_per_weight: u8) -> Self {
        let operations_per_second = match bytes_per_weight {
            1 => board.compute.int8_operations_per_second.value,
            2 => board.compute.f16_operations_per_second.value,
            _ => board.compute.f32_operations_per_second.value,
        };
        let bandwidth = board.memory.bandwidth_bytes_per_second.value as f64;
        Self {
            macs_per_second: operations_per_second as f64 / 2.0 * board.compute.effective_fraction.value,
            bytes_per_second: bandwidth * board.memory.effective_fraction.value,
            overhead_seconds: board.compute.overhead.value.as_seconds(),
            idle_watts: board.power.idle.value.as_watts(),
            joules_per_mac: board.power.picojoules_per_mac.value * 1e-12,
            joules_per_byte: board.power.picojoules_per_byte.value * 1e-12,
        }
    }

    /// The latency of `work`, unrounded, so that small differences of it can be told.
    #[must_use]
    pub fn seconds(&self, work: Work) -> f64 {
        let compute = work.macs as f64 / self.macs_per_second;
        let memory = work.bytes() / self.bytes_per_second;
        compute.max(memory) + self.overhead_seconds
    }

    /// The latency and energy of `work`. Saturates where a figure does not fit
    /// its unit, which takes centuries.
    #[must_use]
    pub fn predict(&self, work: Work) -> Prediction {
        let macs = work.macs as f64;
        let bytes = work.bytes();
        let latency = self.seconds(work);
        let energy = self.idle_watts * latency + macs * self.joules_per_mac + bytes * self.joules_per_byte;
        Prediction {
            latency: TimeSpan::from_seconds(latency).unwrap_or(TimeSpan::from_nanoseconds(u64::MAX)),
            energy: Energy::from_joules(energy).unwrap_or(Energy::from_microjoules(u64::MAX)),
        }
    }
}
