//! Companion mode: firmware beside a board with Linux is its power and thermal supervisor, and tells `device-run` the
//! rung over the serial line.
//!
//! # Messages
//! `device-run` (the host of the line) sends [`CompanionRequest`]s in [`SerialRequest::Companion`], the firmware
//! [`CompanionReport`]s in [`Response::Companion`], each in the frames of [`serial`](super::serial). Other than a
//! picture, a rung has no redundancy that would show damage, so that each message travels in an [`Envelope`] with its
//! CRC-32. What was damaged is counted and dropped; nothing is sent again, the next message is newer.
//!
//! # A conversation
//! ```text
//! device-run                                  firmware
//!   Hello: session 7, ladder, limits   --->
//!                                      <---   Accepted: what it measures
//!                                      <---   Decision 1: rung, pace, reason, valid for 3 s
//!   Telemetry: what ran                --->                                   each about once a second
//!                                      <---   Decision 2
//! ```
//! 1. The hello says what each rung costs and what the supervisor shall keep. The first bytes of the hello, to its
//!    version, are the same in every version. The firmware answers [`Accepted`](CompanionReport::Accepted);
//!    [`Refused`](CompanionReport::Refused) with the reason; or, where it speaks another version, a
//!    [`Response::Error`] that names both. Without an answer the host says hello again.
//! 2. The host counts its *sessions*: each hello begins one (another bundle or other limits begin one too), and every
//!    later message names it. What is of another session is void. Decisions are numbered from 1 in each session: a
//!    number that is not larger than the last one is void, one that leaves a gap tells how many were lost.
//! 3. A decision holds for the time that it names, from its arrival. Then the link is *silent*, and the host goes by
//!    its own governor.
//! 4. Firmware that has not heard the host for [`HOST_PATIENCE`] ends the session. It answers telemetry of a session
//!    that it does not have, for example after a reset, by [`NoSession`](CompanionReport::NoSession), and the host says
//!    hello again.
//!
//! # Who decides what
//! Both sides run the same governor on the same ladder. The host's knows every inference, and keeps deadline and energy;
//! the firmware's knows the firmware's sensors. While decisions are fresh the *more careful* of both holds: the smaller
//! rung and the longer pause. So a broken supervisor, or one whose sensors say nothing, can cost fidelity but never heat,
//! and the host's own sensors protect it as they do without a supervisor.
//!
//! Firmware drops limits that it has no sensor for, and says which ones it watches. With neither it refuses.
//!
//! # A worked example
//! Inside its frame, without the stuffing and the 0 at the end; also the golden test `shared/tests/wire/companion.rs`:
//! ```text
//! 04                          SerialRequest::Companion
//! ee 44 eb a9                 CRC-32 of the message
//! 08                          8 bytes:
//! 01 07 02 1e                 Telemetry, session 7, rung 2, 30 inferences
//! 80 ad e2 04                 of 10,000,000 ns
//! ```
//!
//! # Compatibility
//! Any change to a message is a new [`VERSION`], and new variants are only appended.

use serde::{Deserialize, Serialize};

use super::framing::decode;
use super::{HELLO_MAGIC, WireError};
use crate::MAX_RUNGS;
use crate::checksum::CHECKSUM;
use crate::units::{Energy, Power, Temperature, TimeSpan};

/// The version of the companion's messages that this crate speaks.
pub const VERSION: u32 = 1;

/// How long firmware supervises a host that says nothing.
pub const HOST_PATIENCE: TimeSpan = TimeSpan::from_nanoseconds(5_000_000_000);

/// The longest time that a decision may hold; a host takes none for longer.
pub const MAX_VALIDITY: TimeSpan = TimeSpan::from_nanoseconds(10_000_000_000);

/// Bytes of the longest [`CompanionRequest`]: a hello with all rungs, every integer as long as it can be.
pub const MAX_COMPANION_REQUEST_BYTES: usize = 64 + MAX_RUNGS * RungCost::BYTES;

/// Bytes of the longest [`CompanionReport`]; its texts are names and short sentences.
pub const MAX_COMPANION_REPORT_BYTES: usize = 256;

/// Bytes that a frame has beside its message: variant, checksum, length, stuffing and the end.
const FRAME_BYTES: usize = 16;

/// Room for a frame with any message of the host.
pub const MAX_COMPANION_FRAME_BYTES: usize =
    MAX_COMPANION_REQUEST_BYTES + MAX_COMPANION_REQUEST_BYTES / 254 + FRAME_BYTES;

/// A message with the checksum that tells whether the line has changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<'a> {
    /// CRC-32 ([`crc::CRC_32_ISO_HDLC`]) of the message, little-endian.
    checksum: [u8; 4],
    message: &'a [u8],
}

/// A message of the host.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CompanionRequest<'a> {
    /// Begin a session.
    Hello {
        /// [`HELLO_MAGIC`].
        magic: [u8; 8],
        /// The version that the host speaks, little-endian.
        version: [u8; 4],
        session: u32,
        /// What the host's board draws while nothing runs; 0 if that is not known.
        idle: Power,
        limits: SupervisedLimits,
        #[serde(borrow)]
        rungs: RungCosts<'a>,
    },
    /// What ran since the last telemetry: one message for each rung that did, and one without inferences if none did.
    Telemetry {
        session: u32,
        rung: u8,
        inferences: u32,
        /// Mean of those inferences.
        latency: TimeSpan,
    },
}

/// What the supervisor shall keep, by its own sensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SupervisedLimits {
    pub temperature: Option<SupervisedTemperatures>,
    /// The most that the board may draw on average.
    pub power: Option<Power>,
    /// The least fidelity that is of use.
    pub minimum_fidelity: Option<f32>,
}

/// Temperatures in rising order, at the place of the supervisor's sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisedTemperatures {
    pub target: Temperature,
    pub passive: Temperature,
    pub critical: Temperature,
}

/// A message of the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CompanionReport<'a> {
    /// To the hello: decisions follow.
    Accepted {
        /// The version that the firmware speaks.
        version: u32,
        session: u32,
        /// The name of the firmware's board.
        board: &'a str,
        /// Which limits are kept: those that there is a sensor for.
        watches_temperature: bool,
        watches_power: bool,
    },
    /// What the supervisor's governor decided.
    Decision {
        session: u32,
        /// Counts the decisions of a session from 1.
        number: u32,
        rung: u8,
        /// The least time between the starts of two inferences.
        pace: TimeSpan,
        /// The limit that kept the governor from a larger rung, and its mode, as the metrics name them.
        binding: &'a str,
        mode: &'a str,
        /// For how long the decision holds.
        valid: TimeSpan,
        /// Measured for this decision.
        temperature: Option<Temperature>,
        power: Option<Power>,
    },
    /// To the hello: why there is no supervision; for people.
    Refused { session: u32, text: &'a str },
    /// To telemetry: there is no such session.
    NoSession { session: u32 },
}

/// What one rung costs and is worth on the host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RungCost {
    pub latency: TimeSpan,
    /// Of one inference, the board's idle power during it included.
    pub energy: Energy,
    /// To the dense model.
    pub fidelity: f32,
}

/// The cost of every rung, dense first, as [`RungCost::to_bytes`] writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RungCosts<'a>(&'a [u8]);

impl RungCost {
    /// Bytes of one rung: nanoseconds u64, microjoules u64, fidelity f32, all little-endian.
    pub const BYTES: usize = 20;

    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.latency.as_nanoseconds().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.energy.as_microjoules().to_le_bytes());
        bytes[16..].copy_from_slice(&self.fidelity.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, fidelity @ ..] = *bytes;
        Self {
            latency: TimeSpan::from_nanoseconds(u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            energy: Energy::from_microjoules(u64::from_le_bytes([i, j, k, l, m, n, o, p])),
            fidelity: f32::from_le_bytes(fidelity),
        }
    }
}

impl<'a> RungCosts<'a> {
    /// Of the bytes of 1 to [`MAX_RUNGS`] rungs.
    ///
    /// # Errors
    /// If they are not.
    pub const fn from_bytes(bytes: &'a [u8]) -> Result<Self, WireError> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(RungCost::BYTES) || bytes.len() / RungCost::BYTES > MAX_RUNGS
        {
            Err(WireError::Rungs { bytes: bytes.len() as u64 })
        } else {
            Ok(Self(bytes))
        }
    }

    /// The rungs, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RungCost> + use<'a> {
        self.0.as_chunks().0.iter().map(RungCost::from_bytes)
    }
}

impl<'a> Envelope<'a> {
    /// Writes `message` to the front of `buffer` and puts it into an envelope.
    ///
    /// # Errors
    /// If the buffer is too small.
    pub fn seal(message: &impl Serialize, buffer: &'a mut [u8]) -> Result<Self, WireError> {
        let found = buffer.len() as u64;
        let message: &[u8] =
            postcard::to_slice(message, buffer).map_err(|_| WireError::BufferTooSmall { needed: found + 1, found })?;
        Ok(Self { checksum: CHECKSUM.checksum(message).to_le_bytes(), message })
    }

    /// The message, if it is whole.
    fn open(self) -> Result<&'a [u8], WireError> {
        let (expected, found) = (u32::from_le_bytes(self.checksum), CHECKSUM.checksum(self.message));
        if found == expected { Ok(self.message) } else { Err(WireError::Checksum { expected, found }) }
    }
}

impl<'a> CompanionRequest<'a> {
    /// A hello of the version that this crate speaks.
    #[must_use]
    pub const fn hello(session: u32, idle: Power, limits: SupervisedLimits, rungs: RungCosts<'a>) -> Self {
        Self::Hello { magic: HELLO_MAGIC, version: VERSION.to_le_bytes(), session, idle, limits, rungs }
    }

    /// Takes a message out of its envelope; of a hello the version before anything that a version may change.
    ///
    /// # Errors
    /// If it is damaged, of another version, or none.
    pub fn read(envelope: Envelope<'a>) -> Result<Self, WireError> {
        let message = envelope.open()?;
        let hello = message.strip_prefix(&[0]).map(|rest| rest.strip_prefix(&HELLO_MAGIC));
        if let Some(hello) = hello {
            let (version, _) = hello.and_then(<[u8]>::split_first_chunk).ok_or(WireError::NoHello)?;
            let found = u32::from_le_bytes(*version);
            if found != VERSION {
                return Err(WireError::Version { spoken: VERSION, found });
            }
        }
        let request = decode(message)?;
        if let Self::Hello { rungs, .. } = &request {
            RungCosts::from_bytes(rungs.0)?;
        }
        Ok(request)
    }
}

impl<'a> CompanionReport<'a> {
    /// Takes a message out of its envelope.
    ///
    /// # Errors
    /// If it is damaged or none.
    pub fn read(envelope: Envelope<'a>) -> Result<Self, WireError> {
        decode(envelope.open()?)
    }
}
