//! Why bytes are not a structure map, or a map cannot be made or written.

use crate::ladder::LadderError;
use crate::shape::ShapeError;
use crate::sub_network::ReplayError;

/// One variant for each thing that can be wrong, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StructureMapError {
    /// The first bytes are not [`super::MAGIC`].
    #[error("not a structure map: does not begin with \"HEADRMAP\"")]
    NotAStructureMap,
    /// Written by another version of the format.
    #[error("structure map has format version {found}, this program reads version {readable}")]
    UnsupportedVersion { readable: u32, found: u32 },
    /// The end is missing.
    #[error("structure map has {found} bytes, expected {expected}: it is cut off")]
    Truncated { expected: u64, found: u64 },
    /// There is something after the end.
    #[error("structure map has {found} bytes, expected {expected}: it has trailing bytes")]
    TrailingBytes { expected: u64, found: u64 },
    /// The payload was changed after it was written.
    #[error("structure map has checksum {found:#010x}, expected {expected:#010x}: it is damaged")]
    Checksum { expected: u32, found: u32 },
    /// The payload does not decode, or has more than [`crate::ladder::MAX_RUNGS`] rungs.
    #[error("the payload of the structure map cannot be decoded")]
    Payload,
    /// The payload decodes before its end.
    #[error("the payload of the structure map has {bytes} bytes left after decoding")]
    PayloadRemainder { bytes: u64 },
    /// The payload says the same as another, shorter one: an integer is padded.
    #[error("the payload of the structure map is not in its shortest form, from byte {at} on")]
    NotShortest { at: u64 },
    /// The sizes are impossible.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The ranking does not fit the shape.
    #[error(transparent)]
    Ranking(#[from] ReplayError),
    /// The ladder does not fit the shape and the ranking.
    #[error(transparent)]
    Ladder(#[from] LadderError),
    /// There is no room to write the map; see [`super::encoded_bound`].
    #[error("writing the structure map needs {needed} bytes, the buffer has {found}")]
    BufferTooSmall { needed: u64, found: u64 },
}
