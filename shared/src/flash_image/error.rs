//! Why bytes are not a flash image, or one cannot be written.

use crate::integer_model::IntegerModelError;
use crate::structure_map::StructureMapError;

/// One variant for each thing that can be wrong, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FlashImageError {
    /// The first bytes are not [`super::MAGIC`].
    #[error("not a flash image: does not begin with \"HEADRIMG\"")]
    NotAFlashImage,
    /// Written by another version of the format.
    #[error("flash image has format version {found}, this program reads version {readable}")]
    UnsupportedVersion { readable: u32, found: u32 },
    /// The region ends before the image does.
    #[error("flash image needs {expected} bytes, its region has {found}")]
    Truncated { expected: u64, found: u64 },
    /// Lengths or settings were changed after they were written.
    #[error("flash image has checksum {found:#010x}, expected {expected:#010x}: it is damaged")]
    Checksum { expected: u32, found: u32 },
    /// The settings are none.
    #[error("the settings of the flash image cannot be decoded")]
    Settings,
    #[error(transparent)]
    Map(#[from] StructureMapError),
    #[error(transparent)]
    Model(#[from] IntegerModelError),
    /// Map and model are of different weights.
    #[error("the structure map of the flash image is not that of its integer model")]
    OtherModel,
    /// While writing: a part has more bytes than its length can say.
    #[error("cannot write the flash image: a part has {found} bytes, at most {most} are possible")]
    TooLong { most: u64, found: u64 },
}
