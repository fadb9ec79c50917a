//! The fixed header: everything that can be judged before the content.

use super::IntegerModelError;
use crate::checksum::CHECKSUM;

/// The first eight bytes of every integer model, of any version.
pub const MAGIC: [u8; 8] = *b"HEADRINT";

/// The newest version of the format. Version 1 has no rotary positions and no attention pooling; a model without them
/// is still written as version 1, which older firmware reads too.
pub const FORMAT_VERSION: u32 = 2;

/// Bytes of the header: magic, version, content length, checksum, and zeros up to a multiple of 16.
pub const HEADER_BYTES: usize = 32;

/// Where the zeros of the header begin.
const FIELDS_END: usize = 20;

/// Checks the header of `bytes` and returns the version and the content.
pub(super) fn content_of(bytes: &[u8]) -> Result<(u32, &[u8]), IntegerModelError> {
    let found = bytes.len() as u64;
    if !MAGIC.starts_with(&bytes[..bytes.len().min(MAGIC.len())]) {
        return Err(IntegerModelError::NotAnIntegerModel);
    }
    let Some((header, content)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(IntegerModelError::Truncated { expected: HEADER_BYTES as u64, found });
    };
    let field = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let version = field(8);
    if version == 0 || version > FORMAT_VERSION {
        return Err(IntegerModelError::UnsupportedVersion { readable: FORMAT_VERSION, found: version });
    }
    let expected = HEADER_BYTES as u64 + u64::from(field(12));
    if found < expected {
        return Err(IntegerModelError::Truncated { expected, found });
    }
    if found > expected {
        return Err(IntegerModelError::TrailingBytes { expected, found });
    }
    if let Some(at) = (FIELDS_END..HEADER_BYTES).find(|&at| header[at] != 0) {
        return Err(IntegerModelError::Padding { at: at as u64 });
    }
    let (expected, found) = (field(16), CHECKSUM.checksum(content));
    if found != expected {
        return Err(IntegerModelError::Checksum { expected, found });
    }
    Ok((version, content))
}

/// The header of `content`, which is of a version.
#[cfg(feature = "std")]
pub(super) fn header_of(version: u32, content: &[u8]) -> Result<[u8; HEADER_BYTES], IntegerModelError> {
    let (found, largest) = (content.len() as u64, u64::from(u32::MAX));
    let out_of_range = IntegerModelError::OutOfRange { field: "bytes of content", smallest: 0, largest, found };
    let length = u32::try_from(content.len()).map_err(|_| out_of_range)?;
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&version.to_le_bytes());
    header[12..16].copy_from_slice(&length.to_le_bytes());
    header[16..FIELDS_END].copy_from_slice(&CHECKSUM.checksum(content).to_le_bytes());
    Ok(header)
}
