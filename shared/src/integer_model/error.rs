//! Why bytes are not an integer model, or one cannot be written.

/// One variant for each thing that can be wrong, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IntegerModelError {
    /// The first bytes are not [`super::MAGIC`].
    #[error("not an integer model: does not begin with \"HEADRINT\"")]
    NotAnIntegerModel,
    /// Written by a later version of the format.
    #[error("integer model has format version {found}, this program reads versions up to {readable}")]
    UnsupportedVersion { readable: u32, found: u32 },
    /// The end is missing.
    #[error("integer model has {found} bytes, expected {expected}: it is cut off")]
    Truncated { expected: u64, found: u64 },
    /// There is something after the end.
    #[error("integer model has {found} bytes, expected {expected}: it has trailing bytes")]
    TrailingBytes { expected: u64, found: u64 },
    /// The content was changed after it was written.
    #[error("integer model has checksum {found:#010x}, expected {expected:#010x}: it is damaged")]
    Checksum { expected: u32, found: u32 },
    /// A size that no model can have, or that the engine's arithmetic does not cover.
    #[error("integer model: {field} is {found}, expected {smallest} to {largest}")]
    OutOfRange { field: &'static str, smallest: u64, largest: u64, found: u64 },
    /// The sections do not end where the content ends.
    #[error("the sections of the integer model need {expected} bytes, its content has {found}")]
    Sections { expected: u64, found: u64 },
    /// Bytes that must be 0 are not.
    #[error("integer model: byte {at} fills a gap and is not 0")]
    Padding { at: u64 },
    /// While writing: a part has another size than the sizes say.
    #[error("cannot write the integer model: {part} has {found} values, expected {expected}")]
    Part { part: &'static str, expected: u64, found: u64 },
}
