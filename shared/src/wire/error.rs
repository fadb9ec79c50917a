//! What can be wrong with a message.

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    #[error("a message of {found} bytes, at most {most} are allowed")]
    TooLong { most: u32, found: u64 },
    #[error("an empty message")]
    Empty,
    #[error("a message that cannot be decoded")]
    Malformed,
    #[error("{bytes} bytes after the end of a message")]
    Remainder { bytes: u64 },
    #[error("not a client of Headroom: the first message is no hello")]
    NoHello,
    #[error("the client speaks version {found}, this server version {spoken}")]
    Version { spoken: u32, found: u32 },
    #[error("a second hello")]
    SecondHello,
    #[error("{found} bytes for an image of {width} x {height} pixels, expected {expected}")]
    Pixels { width: u32, height: u32, expected: u64, found: u64 },
    #[error("{bytes} bytes are no whole number of f32 values")]
    Values { bytes: u64 },
    #[error("{bytes} bytes are no ladder: {rung} for each of 1 to {most} rungs", rung = super::RungCost::BYTES, most = crate::MAX_RUNGS)]
    Rungs { bytes: u64 },
    #[error("a message with checksum {found:#010x}, expected {expected:#010x}: the line has changed it")]
    Checksum { expected: u32, found: u32 },
    #[error("the message needs {needed} bytes, the buffer has {found}")]
    BufferTooSmall { needed: u64, found: u64 },
}
