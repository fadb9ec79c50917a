//! What clients send.

use serde::{Deserialize, Serialize};

use super::framing::decode;
use super::{VERSION, WireError};

/// The first bytes of every hello, after the variant's number.
pub const HELLO_MAGIC: [u8; 8] = *b"HEADROOM";

/// A message of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Request<'a> {
    /// The first message, and only the first.
    Hello {
        /// [`HELLO_MAGIC`].
        magic: [u8; 8],
        /// The version that the client speaks, little-endian.
        version: [u8; 4],
        when_full: WhenFull,
        /// Frames of this client that may wait, beside the one that runs: at least 1.
        most_waiting: u8,
    },
    /// Run one image.
    Infer {
        /// Returned in the response.
        id: u64,
        /// In pixels.
        width: u32,
        height: u32,
        outputs: Outputs,
        /// Red, green and blue of each pixel, row by row from the top left.
        rgb: &'a [u8],
    },
    /// Tell what runs, and why.
    Status { id: u64 },
    /// Read limits and bundle again from where they are, as SIGHUP does.
    Reload { id: u64 },
    /// Write the flight record to its file.
    DumpFlightRecord { id: u64 },
}

/// What happens to a frame for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WhenFull {
    /// The oldest waiting frame of this client is refused as [`Dropped`](super::RefusalReason::Dropped).
    #[default]
    DropOldest,
    /// The new frame is refused as [`QueueFull`](super::RefusalReason::QueueFull).
    Refuse,
    /// The server reads no further request of this client until there is room.
    Wait,
}

/// Which outputs of the model a response holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outputs {
    Embedding,
    Logits,
    Both,
}

impl<'a> Request<'a> {
    /// A hello of the version that this crate speaks.
    #[must_use]
    pub const fn hello(when_full: WhenFull, most_waiting: u8) -> Self {
        Self::Hello { magic: HELLO_MAGIC, version: VERSION.to_le_bytes(), when_full, most_waiting }
    }

    /// Reads the first message of a client: its version before anything that a version may change.
    ///
    /// # Errors
    /// If it is no hello of this version.
    pub fn read_hello(payload: &'a [u8]) -> Result<(WhenFull, u8), WireError> {
        let magic = payload.strip_prefix(&[0]).and_then(|rest| rest.strip_prefix(&HELLO_MAGIC));
        let (version, _) = magic.and_then(<[u8]>::split_first_chunk).ok_or(WireError::NoHello)?;
        let found = u32::from_le_bytes(*version);
        if found != VERSION {
            return Err(WireError::Version { spoken: VERSION, found });
        }
        match decode(payload)? {
            Self::Hello { when_full, most_waiting, .. } => Ok((when_full, most_waiting)),
            _ => Err(WireError::NoHello),
        }
    }

    /// Reads any later message.
    ///
    /// # Errors
    /// If it is none, or an image has not the bytes of its size.
    pub fn read(payload: &'a [u8]) -> Result<Self, WireError> {
        decode::<Self>(payload)?.check()
    }

    /// Checks what a message says beyond its form.
    pub(super) fn check(self) -> Result<Self, WireError> {
        match self {
            Self::Hello { .. } => Err(WireError::SecondHello),
            Self::Infer { width, height, rgb, .. } => {
                // At most 3 * 2^64 bytes, which u64 does not hold and no message has.
                let expected = (u64::from(width) * u64::from(height)).saturating_mul(3);
                let found = rgb.len() as u64;
                if expected == found && found > 0 {
                    Ok(self)
                } else {
                    Err(WireError::Pixels { width, height, expected, found })
                }
            }
            Self::Status { .. } | Self::Reload { .. } | Self::DumpFlightRecord { .. } => Ok(self),
        }
    }
}
