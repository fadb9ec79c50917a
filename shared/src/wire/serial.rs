//! Messages over a serial line, to and from firmware.
//!
//! A serial line has no connections and loses bytes, so that each message is one postcard value in consistent overhead
//! byte stuffing (COBS): no byte of it is 0, and a 0 ends it. After a broken message the next 0 is a new beginning. What
//! firmware is asked is a [`SerialRequest`], what it answers a [`Response`](super::Response); there is no hello.

use serde::{Deserialize, Serialize};

pub use super::receiver::{Received, Receiver};

use super::WireError;
use super::companion::Envelope;
use super::request::Request;
use crate::units::{Power, Temperature, TimeSpan};

/// A message to firmware.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SerialRequest<'a> {
    /// [`Request::Infer`] or [`Request::Status`].
    Wire(#[serde(borrow)] Request<'a>),
    /// What inference may cost from now on, beside the temperatures of the board.
    Limits {
        id: u64,
        /// How long an inference may take, with one miss in a hundred.
        deadline: Option<TimeSpan>,
        /// The most that the board may draw on average.
        power: Option<Power>,
        /// The least fidelity that is of use.
        minimum_fidelity: Option<f32>,
    },
    /// Run this rung whatever the governor says, or leave it to the governor again.
    Hold { id: u64, rung: Option<u8> },
    /// How warm the chip is, for a board that has no sensor of its own.
    Temperature { id: u64, temperature: Temperature },
    /// A [`CompanionRequest`](super::CompanionRequest).
    Companion(#[serde(borrow)] Envelope<'a>),
}

impl<'a> SerialRequest<'a> {
    /// Takes a message out of the bytes before a 0, in place.
    ///
    /// # Errors
    /// If they are none, or an image has not the bytes of its size.
    pub fn read(stuffed: &'a mut [u8]) -> Result<Self, WireError> {
        let payload = unstuff(stuffed)?;
        match super::framing::decode(payload)? {
            Self::Wire(request) => request.check().map(Self::Wire),
            other => Ok(other),
        }
    }
}

/// Takes the payload out of the bytes before a 0, in place.
///
/// # Errors
/// If they are no such message.
pub fn unstuff(stuffed: &mut [u8]) -> Result<&[u8], WireError> {
    let length = cobs::decode_in_place(stuffed).map_err(|_| WireError::Malformed)?;
    Ok(&stuffed[..length])
}

/// Writes a message with its end to the front of `buffer` and returns the bytes.
///
/// # Errors
/// If the buffer is too small.
pub fn stuff<'b>(message: &impl Serialize, buffer: &'b mut [u8]) -> Result<&'b [u8], WireError> {
    let found = buffer.len() as u64;
    match postcard::to_slice_cobs(message, buffer) {
        Ok(written) => Ok(written),
        Err(postcard::Error::SerializeBufferFull) => Err(WireError::BufferTooSmall { needed: found + 1, found }),
        Err(_) => Err(WireError::Malformed),
    }
}
