//! Lengths and postcard: what is the same for messages of either side.

use serde::{Deserialize, Serialize};

use super::WireError;

/// Bytes of the length that goes before each message.
pub const LENGTH_BYTES: usize = 4;

/// The number of bytes of the message that follows, of which there may be `most`.
///
/// # Errors
/// If it is longer, or empty.
pub fn payload_length(prefix: [u8; LENGTH_BYTES], most: u32) -> Result<usize, WireError> {
    match u32::from_le_bytes(prefix) {
        0 => Err(WireError::Empty),
        found if found > most => Err(WireError::TooLong { most, found: found.into() }),
        length => Ok(length as usize),
    }
}

/// Decodes all of `payload`, in place. Meaning is checked by [`Request::read`](super::Request::read) and
/// [`Response::read`](super::Response::read), which call this.
///
/// # Errors
/// If it is not such a message, or bytes are left over.
pub fn decode<'a, M: Deserialize<'a>>(payload: &'a [u8]) -> Result<M, WireError> {
    let (message, rest) = postcard::take_from_bytes(payload).map_err(|_| WireError::Malformed)?;
    if rest.is_empty() { Ok(message) } else { Err(WireError::Remainder { bytes: rest.len() as u64 }) }
}

/// Bytes that [`encode`] writes for `message`.
///
/// # Errors
/// If they are more than `most` and the length before them.
pub fn encoded_length(message: &impl Serialize, most: u32) -> Result<usize, WireError> {
    let payload = postcard::serialize_with_flavor(message, postcard::ser_flavors::Size::default())
        .map_err(|_| WireError::Malformed)?;
    match u32::try_from(payload) {
        Ok(length) if length <= most => Ok(LENGTH_BYTES + payload),
        _ => Err(WireError::TooLong { most, found: payload as u64 }),
    }
}

/// Writes the length and `message` to the front of `buffer` and returns the number of bytes.
///
/// # Errors
/// If the message has more than `most` bytes or does not fit the buffer.
pub fn encode(message: &impl Serialize, most: u32, buffer: &mut [u8]) -> Result<usize, WireError> {
    let needed = encoded_length(message, most)?;
    let found = buffer.len() as u64;
    let Some((length, rest)) = buffer.get_mut(..needed).and_then(<[u8]>::split_first_chunk_mut) else {
        return Err(WireError::BufferTooSmall { needed: needed as u64, found });
    };
    postcard::to_slice(message, rest).map_err(|_| WireError::Malformed)?;
    *length = u32::to_le_bytes((needed - LENGTH_BYTES) as u32);
    Ok(needed)
}
