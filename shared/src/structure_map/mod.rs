//! The structure map: shape, ranking and ladder of one elastic model, in one
//! small file that a device reads in place.
//!
//! # The file
//! ```text
//! byte  0        8         12        16        20
//!       +--------+---------+---------+---------+----------------------+
//!       | magic  | version | length  | CRC-32  | payload (postcard)   |
//!       | 8      | u32 LE  | u32 LE  | u32 LE  | `length` bytes       |
//!       +--------+---------+---------+---------+----------------------+
//! ```
//! The length and the checksum ([`crc::CRC_32_ISO_HDLC`]) are those of the
//! stored payload bytes. The payload is one postcard value: integers above 8
//! bits are variable-length (7 bits a byte, low ones first), a list begins with
//! its length, an `Option` with 0 or 1.
//!
//! | field | encoding |
//! |---|---|
//! | [`ModelShape`] | its fields in order |
//! | SHA-256 of the weights | 32 bytes |
//! | steps | length, then one byte each ([`crate::step`]) |
//! | rungs | length, then the fields of each [`Rung`] in order |
//!
//! # A worked example
//! A model of one block (2 heads of 4 dimensions, 12 neurons, width 8,
//! 5 tokens, f32 weights, nothing outside the blocks, floors 1 and 0), a
//! ranking of two steps and two rungs. The same bytes are the golden test
//! `tests/golden.rs`.
//! ```text
//! 48 45 41 44 52 4d 41 50   magic "HEADRMAP"
//! 01 00 00 00               format version 1
//! 52 00 00 00               82 bytes of payload
//! 37 18 8c 8f               their CRC-32, 0x8f8c1837
//! 01 02 04 0c               1 block, 2 heads, head dimension 4, 12 neurons
//! 08 05 00 04               width 8, 5 tokens, plain MLP, 4 bytes per weight
//! 00 00 01 00               nothing outside the blocks; floors: 1 head, 0 neurons
//! ab ab ab ab ab ab ab ab   SHA-256 of the weights
//! ab ab ab ab ab ab ab ab
//! ab ab ab ab ab ab ab ab
//! ab ab ab ab ab ab ab ab
//! 02 00 01                  2 steps: block 0 loses neurons 8 to 11, then a head
//! 02                        2 rungs
//! 00 d0 14 d0 10            0 steps, 2640 MACs, 2128 bytes of weights
//! 00 00 80 3f               fidelity 1.0
//! e8 07 02 00 00            predicted 1000 ns and 2 µJ, nothing measured
//! 01 00                     token schedule: no tokens merged in block 0
//! 02 c8 0b 90 0a            2 steps, 1480 MACs, 1296 bytes of weights
//! 00 00 00 3f               fidelity 0.5
//! f4 03 01 01 d8 04 00      predicted 500 ns and 1 µJ, measured 600 ns
//! 01 00                     token schedule
//! ```
//!
//! # Reading
//! [`StructureMap::read`] checks in this order: magic, version, length,
//! checksum, decoding to the last byte, shortest encoding, then meaning: the
//! shape's limits, blocks in range, no count below its floor, and the ladder
//! ([`Ladder::validate`]). No input panics, allocates or is half accepted: what
//! is returned satisfies all of it, and writing it gives the same bytes again.
//!
//! # Sizes
//! A map is its ranking plus a little: that of ViT-B/16 (12 blocks of 12 heads
//! and 3072 neurons, 4,920 steps, 24 rungs with measured figures) is 6,029 bytes.

mod error;
mod header;
mod payload;

pub use error::StructureMapError;
pub use header::{FORMAT_VERSION, HEADER_BYTES, MAGIC};

use crate::ladder::{Ladder, MAX_RUNGS};
use crate::rung::Rung;
use crate::shape::{MAX_BLOCKS, ModelShape, NEURON_QUANTUM};
use crate::sub_network::SubNetwork;
use payload::Payload;

/// Steps of the longest possible ranking: every quantum of the largest shape.
pub const MAX_STEPS: usize = MAX_BLOCKS * (u8::MAX as usize + (u16::MAX as usize).div_ceil(NEURON_QUANTUM as usize));

/// Bytes of the largest possible structure map.
pub const MAX_ENCODED_BYTES: usize = encoded_bound(MAX_STEPS);

/// Bytes that are always enough to [write](StructureMap::write) a map of so
/// many steps.
#[must_use]
pub const fn encoded_bound(steps: usize) -> usize {
    // Longest encodings: u8 1, u16 3, u32 5, u64 10, f32 4, an option 1 more.
    const SHAPE: usize = 1 + 1 + 3 + 3 + 3 + 3 + 1 + 1 + 10 + 10 + 1 + 3;
    const RUNG: usize = 5 + 10 + 10 + 4 + 10 + 10 + 11 + 11 + 1 + MAX_BLOCKS;
    const SHA256: usize = 32;
    const STEPS_LENGTH: usize = 3;
    const RUNGS_LENGTH: usize = 1;
    HEADER_BYTES + SHAPE + SHA256 + STEPS_LENGTH + steps + RUNGS_LENGTH + MAX_RUNGS * RUNG
}

/// A structure map that has been checked; it borrows ranking and token
/// schedules from the bytes it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct StructureMap<'a> {
    payload: Payload<'a>,
}

impl<'a> StructureMap<'a> {
    /// A map of these parts.
    ///
    /// # Errors
    /// [`StructureMapError::Shape`], [`Ranking`](StructureMapError::Ranking) or
    /// [`Ladder`](StructureMapError::Ladder): the first thing that does not fit.
    pub fn new(
        shape: ModelShape,
        weights_sha256: [u8; 32],
        steps: &'a [u8],
        ladder: Ladder<'a>,
    ) -> Result<Self, StructureMapError> {
        Self::checked(Payload { shape, weights_sha256, steps, ladder })
    }

    /// Reads a map in place.
    ///
    /// # Errors
    /// The first of the checks of the [module](self) that fails.
    pub fn read(bytes: &'a [u8]) -> Result<Self, StructureMapError> {
        Self::checked(payload::decode(header::payload_of(bytes)?)?)
    }

    fn checked(payload: Payload<'a>) -> Result<Self, StructureMapError> {
        payload.shape.validate()?;
        SubNetwork::after(&payload.shape, payload.steps)?;
        payload.ladder.validate(&payload.shape, payload.steps)?;
        Ok(Self { payload })
    }

    /// Writes the map to the front of `buffer` and returns the number of bytes.
    /// The same map always gives the same bytes.
    ///
    /// # Errors
    /// [`StructureMapError::BufferTooSmall`], before anything is written;
    /// [`encoded_bound`] is always enough.
    pub fn write(&self, buffer: &mut [u8]) -> Result<usize, StructureMapError> {
        let needed = HEADER_BYTES + payload::encoded_length(&self.payload);
        let too_small = StructureMapError::BufferTooSmall { needed: needed as u64, found: buffer.len() as u64 };
        let Some((header, rest)) = buffer[..].split_first_chunk_mut::<HEADER_BYTES>() else {
            return Err(too_small);
        };
        if HEADER_BYTES + rest.len() < needed {
            return Err(too_small);
        }
        let encoded = payload::encode(&self.payload, rest).map_err(|_| too_small)?;
        *header = header::header_of(encoded);
        Ok(needed)
    }

    /// The sizes of the dense model.
    #[must_use]
    pub fn shape(&self) -> &ModelShape {
        &self.payload.shape
    }

    /// SHA-256 of the file of permuted weights that this map belongs to.
    #[must_use]
    pub fn weights_sha256(&self) -> &[u8; 32] {
        &self.payload.weights_sha256
    }

    /// The ranking, least important first, one byte per step.
    #[must_use]
    pub fn steps(&self) -> &'a [u8] {
        self.payload.steps
    }

    /// The rungs, the dense one first; never empty.
    #[must_use]
    pub fn rungs(&self) -> &[Rung<'a>] {
        self.payload.ladder.rungs()
    }

    /// The ladder itself.
    #[must_use]
    pub fn ladder(&self) -> &Ladder<'a> {
        &self.payload.ladder
    }

    /// What is left after the first `steps` of the ranking, or after all of it
    /// where it has fewer. Time O(steps).
    #[must_use]
    pub fn sub_network_after(&self, steps: usize) -> SubNetwork {
        let steps = &self.payload.steps[..steps.min(self.payload.steps.len())];
        SubNetwork::after(&self.payload.shape, steps).expect("the ranking was replayed when the map was made")
    }

    /// The sub-network of a rung, with the tokens that it merges; `None` where the ladder has no such rung. Time
    /// O(steps).
    #[must_use]
    pub fn sub_network_of(&self, rung: usize) -> Option<SubNetwork> {
        let rung = self.rungs().get(rung)?;
        let merging =
            self.sub_network_after(rung.steps as usize).with_token_schedule(self.shape(), rung.token_schedule);
        Some(merging.expect("schedules were checked when the map was made"))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;

    use super::*;
    use crate::{Energy, MlpKind, TimeSpan};

    /// The largest value of every field, possible together or not.
    #[test]
    fn the_bound_is_what_the_largest_payload_needs() {
        let rung = Rung {
            steps: u32::MAX,
            macs: u64::MAX,
            weight_bytes: u64::MAX,
            fidelity: f32::MAX,
            predicted_latency: TimeSpan::from_nanoseconds(u64::MAX),
            predicted_energy: Energy::from_microjoules(u64::MAX),
            measured_latency: Some(TimeSpan::from_nanoseconds(u64::MAX)),
            measured_energy: Some(Energy::from_microjoules(u64::MAX)),
            token_schedule: &[u8::MAX; MAX_BLOCKS],
        };
        let shape = ModelShape {
            blocks: u8::MAX,
            heads: u8::MAX,
            head_dim: u16::MAX,
            neurons: u16::MAX,
            embed_dim: u16::MAX,
            tokens: u16::MAX,
            mlp: MlpKind::Gated,
            bytes_per_weight: u8::MAX,
            outside_macs: u64::MAX,
            outside_weight_bytes: u64::MAX,
            floor_heads: u8::MAX,
            floor_neurons: u16::MAX,
        };
        let ladder = Ladder::from_rungs(&[rung; MAX_RUNGS]).expect("as many as fit");
        let steps = vec![0; MAX_STEPS];
        let payload = Payload { shape, weights_sha256: [0; 32], steps: &steps, ladder };
        assert_eq!(HEADER_BYTES + payload::encoded_length(&payload), MAX_ENCODED_BYTES);
    }
}
