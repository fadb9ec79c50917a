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
//! bits are variable-length, signed by no field, lists and texts begin with
//! their length.
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
//! GOLDEN
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
//! and 3072 neurons, 4,752 steps, 24 rungs) is SIZE bytes.

mod error;
mod header;
mod payload;

pub use error::StructureMapError;
pub use header::{FORMAT_VERSION, HEADER_BYTES, MAGIC};

use crate::ladder::{Ladder, MAX_RUNGS};
use crate::rung::Rung;
use crate::shape::{MAX_BLOCKS, ModelShape, NEURON_QUANTUM};
use crate::sub_network::{ReplayError, SubNetwork};
use payload::Payload;

/// Steps of the longest possible ranking: every quantum of the largest shape.
pub const MAX_STEPS: usize =
    MAX_BLOCKS * (u8::MAX as usize + (u16::MAX as usize).div_ceil(NEURON_QUANTUM as usize));

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
        let Some((header, rest)) = buffer[..].split_first_chunk_mut::<HEADER_BYTES>() else { return Err(too_small) };
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
    /// where it has fewer.
    ///
    /// # Errors
    /// None for a map that was read or made by [`StructureMap::new`].
    pub fn sub_network_after(&self, steps: usize) -> Result<SubNetwork, ReplayError> {
        let steps = &self.payload.steps[..steps.min(self.payload.steps.len())];
        SubNetwork::after(&self.payload.shape, steps)
    }
}
