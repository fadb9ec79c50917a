//! The payload as postcard encodes it, before and apart from its meaning.

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use super::StructureMapError;
use crate::ladder::Ladder;
use crate::shape::ModelShape;

/// The fields in their order in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Payload<'a> {
    pub shape: ModelShape,
    pub weights_sha256: [u8; 32],
    pub steps: &'a [u8],
    #[serde(borrow)]
    pub ladder: Ladder<'a>,
}

/// Decodes all of `bytes`, and only the encoding that [`encode`] gives:
/// postcard itself reads padded integers and leaves trailing bytes alone.
pub(super) fn decode(bytes: &[u8]) -> Result<Payload<'_>, StructureMapError> {
    let (payload, rest) = postcard::take_from_bytes::<Payload<'_>>(bytes).map_err(|_| StructureMapError::Payload)?;
    if !rest.is_empty() {
        return Err(StructureMapError::PayloadRemainder { bytes: rest.len() as u64 });
    }
    let mut at = 0;
    let same = postcard::serialize_with_flavor(&payload, SameAs { expected: bytes, at: &mut at });
    if same.is_err() || at != bytes.len() {
        return Err(StructureMapError::NotShortest { at: at as u64 });
    }
    Ok(payload)
}

/// Writes the payload to the front of `buffer` and returns its bytes.
pub(super) fn encode<'b>(payload: &Payload<'_>, buffer: &'b mut [u8]) -> postcard::Result<&'b mut [u8]> {
    postcard::to_slice(payload, buffer)
}

/// The number of bytes that [`encode`] writes.
pub(super) fn encoded_length(payload: &Payload<'_>) -> usize {
    postcard::serialize_with_flavor(payload, postcard::ser_flavors::Size::default())
        .expect("counting has no limit and the payload only sized sequences")
}

/// Compares what is serialised with expected bytes, without a buffer.
struct SameAs<'e> {
    expected: &'e [u8],
    /// Bytes that agree so far.
    at: &'e mut usize,
}

impl Flavor for SameAs<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        if self.expected.get(*self.at) != Some(&byte) {
            return Err(postcard::Error::SerializeBufferFull);
        }
        *self.at += 1;
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
