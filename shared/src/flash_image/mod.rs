//! The flash image: all that a microcontroller needs of a bundle, in one block that its firmware reads in place.
//!
//! The image has a region of flash of its own, so that a new bundle needs no new firmware.
//!
//! # The image
//! All numbers are little-endian. The parts begin at multiples of 16 bytes; zeros fill the gaps.
//! ```text
//! byte  0        8         12       16         20          24        28
//!       +--------+---------+--------+----------+-----------+---------+-------+
//!       | magic  | version | CRC-32 | settings | structure | integer | zeros |
//!       | 8      | u32     | u32    | length   | map length| model   | 4     |
//!       |        |         |        | u32      | u32       | length  |       |
//!       +--------+---------+--------+----------+-----------+---------+-------+
//!       | settings (postcard) | structure map | integer model |
//! ```
//! The checksum ([`crc::CRC_32_ISO_HDLC`]) is that of bytes 16 to 31 and of the settings; [map](crate::structure_map)
//! and [model](crate::integer_model) have their own.
//!
//! # Reading
//! [`FlashImage::read`] checks in this order: magic, version, lengths, checksum, settings to the last byte, the map and
//! the model as their own readers do, and that both were made for each other. Bytes behind the image are the rest of
//! its region and are not read. No input panics, allocates or is half accepted.
//!
//! # What is not checked
//! Checksums find accidents, not attackers: who can write the flash can write an image that is accepted. Signatures
//! are checked where a bundle enters a device with an operating system, and by the host that flashes.

mod error;
#[cfg(feature = "std")]
mod write;

pub use error::FlashImageError;

use serde::{Deserialize, Serialize};

use crate::board::{BoardProfile, Name};
use crate::checksum::CHECKSUM;
use crate::integer_model::{BlockCounts, IntegerModel};
use crate::structure_map::StructureMap;
use crate::units::{Power, Temperature};

/// The first eight bytes of every flash image, of any version.
pub const MAGIC: [u8; 8] = *b"HEADRIMG";

/// The version of the format that this crate reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 32;

/// Parts begin at multiples of so many bytes.
pub const PART_ALIGNMENT: usize = 16;

/// Where the part of the header begins that the checksum covers.
const CHECKED_FROM: usize = 16;

/// What firmware takes from the board's profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The name of the profile.
    pub board: Name,
    /// Where the governor holds the chip.
    pub target: Temperature,
    /// Above which the chip should not stay.
    pub passive: Temperature,
    /// The most that the chip bears.
    pub critical: Temperature,
    /// What the board draws while nothing runs.
    pub idle: Power,
}

impl Settings {
    /// Those of a board.
    #[must_use]
    pub fn of(board: &BoardProfile) -> Self {
        Self {
            board: board.name.clone(),
            target: board.thermal.target.value,
            passive: board.thermal.passive.value,
            critical: board.thermal.critical.value,
            idle: board.power.idle.value,
        }
    }
}

/// An image that has been checked; it borrows map and model from the bytes it was read from.
#[derive(Clone, Debug)]
pub struct FlashImage<'a> {
    pub settings: Settings,
    pub map: StructureMap<'a>,
    pub model: IntegerModel<'a>,
}

impl<'a> FlashImage<'a> {
    /// Reads the image at the beginning of `region`.
    ///
    /// # Errors
    /// The first of the checks of the [module](self) that fails.
    pub fn read(region: &'a [u8]) -> Result<Self, FlashImageError> {
        let found = region.len() as u64;
        if !MAGIC.starts_with(&region[..region.len().min(MAGIC.len())]) {
            return Err(FlashImageError::NotAFlashImage);
        }
        let truncated = |expected: u64| FlashImageError::Truncated { expected, found };
        let (header, _) = region.split_first_chunk::<HEADER_BYTES>().ok_or(truncated(HEADER_BYTES as u64))?;
        let field = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if field(8) != FORMAT_VERSION {
            return Err(FlashImageError::UnsupportedVersion { readable: FORMAT_VERSION, found: field(8) });
        }
        let layout = Layout::of([field(16), field(20), field(24)]);
        let part = |index: usize| layout.part(region, index).ok_or(truncated(layout.end()));
        let [settings, map, model] = [part(0)?, part(1)?, part(2)?];
        let (expected, found) = (field(12), checksum(&header[CHECKED_FROM..], settings));
        if found != expected {
            return Err(FlashImageError::Checksum { expected, found });
        }
        let settings = match postcard::take_from_bytes(settings) {
            Ok((settings, [])) => settings,
            Ok(_) | Err(_) => return Err(FlashImageError::Settings),
        };
        let (map, model) = (StructureMap::read(map)?, IntegerModel::read(model)?);
        if !model.is_of(&map) {
            return Err(FlashImageError::OtherModel);
        }
        Ok(Self { settings, map, model })
    }

    /// Whether the integer engine can run `rung`: what is stored of the model has all of it and the matrices that it runs
    /// with, and the model can merge as many tokens.
    #[must_use]
    pub fn has_rung(&self, rung: usize) -> bool {
        let Some(kept) = self.map.sub_network_of(rung) else { return false };
        let sizes = self.model.sizes();
        let mut patches = sizes.patches();
        let is_stored = (0..kept.blocks()).all(|block| {
            let merged = kept.merged_tokens(block);
            let merges = merged <= patches / 2 && (merged == 0 || !sizes.rotary);
            patches = patches.saturating_sub(merged);
            merges && self.model.counts(block).hold(&BlockCounts::of(&kept, block, sizes.head_dim))
        });
        is_stored && (self.model.correction_of_rung(rung).is_some() || self.model.sizes().original_ends)
    }
}

fn checksum(lengths: &[u8], settings: &[u8]) -> u32 {
    let mut digest = CHECKSUM.digest();
    digest.update(lengths);
    digest.update(settings);
    digest.finalize()
}

/// Where the parts are.
struct Layout {
    /// First byte and length of settings, map and model.
    parts: [(u64, u64); 3],
}

impl Layout {
    fn of(lengths: [u32; 3]) -> Self {
        let mut at = HEADER_BYTES as u64;
        let parts = lengths.map(|length| {
            let part = (at, u64::from(length));
            at = (at + u64::from(length)).next_multiple_of(PART_ALIGNMENT as u64);
            part
        });
        Self { parts }
    }

    /// The first byte behind the image.
    fn end(&self) -> u64 {
        let (at, length) = self.parts[2];
        at + length
    }

    fn part<'a>(&self, region: &'a [u8], index: usize) -> Option<&'a [u8]> {
        let (at, length) = self.parts[index];
        let (from, to) = (usize::try_from(at).ok()?, usize::try_from(at + length).ok()?);
        region.get(from..to)
    }
}
