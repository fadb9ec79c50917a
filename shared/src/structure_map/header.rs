//! The fixed header: everything that can be judged before decoding.

use super::StructureMapError;
use crate::checksum::CHECKSUM;

/// The first eight bytes of every structure map, of any version.
pub const MAGIC: [u8; 8] = *b"HEADRMAP";

/// The version of the format that this crate reads and writes. The payload has
/// no optional fields, so any change to it is a new version.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes of the header: magic, version, payload length, checksum.
pub const HEADER_BYTES: usize = 8 + 4 + 4 + 4;

/// Checks the header of `bytes` and returns the payload.
pub(super) fn payload_of(bytes: &[u8]) -> Result<&[u8], StructureMapError> {
    let found = bytes.len() as u64;
    let begins = &bytes[..bytes.len().min(MAGIC.len())];
    if !MAGIC.starts_with(begins) {
        return Err(StructureMapError::NotAStructureMap);
    }
    let truncated_header = StructureMapError::Truncated { expected: HEADER_BYTES as u64, found };
    let Some((_, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(truncated_header);
    };
    let Some((version, rest)) = rest.split_first_chunk() else {
        return Err(truncated_header);
    };
    let version = u32::from_le_bytes(*version);
    if version != FORMAT_VERSION {
        return Err(StructureMapError::UnsupportedVersion { readable: FORMAT_VERSION, found: version });
    }
    let Some((length, rest)) = rest.split_first_chunk() else {
        return Err(truncated_header);
    };
    let Some((checksum, payload)) = rest.split_first_chunk() else {
        return Err(truncated_header);
    };
    let length = u32::from_le_bytes(*length);
    let expected = HEADER_BYTES as u64 + u64::from(length);
    if found < expected {
        return Err(StructureMapError::Truncated { expected, found });
    }
    if found > expected {
        return Err(StructureMapError::TrailingBytes { expected, found });
    }
    let expected = u32::from_le_bytes(*checksum);
    let found = CHECKSUM.checksum(payload);
    if found != expected {
        return Err(StructureMapError::Checksum { expected, found });
    }
    Ok(payload)
}

/// The header of `payload`, whose length fits 32 bits: [`super::MAX_ENCODED_BYTES`] does.
pub(super) fn header_of(payload: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[16..].copy_from_slice(&CHECKSUM.checksum(payload).to_le_bytes());
    header
}
