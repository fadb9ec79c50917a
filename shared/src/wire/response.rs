//! What the server sends.

use serde::{Deserialize, Serialize};

use super::WireError;
use super::companion::Envelope;
use super::framing::decode;
use crate::units::{Power, Temperature, TimeSpan};

/// A message of the server.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Response<'a> {
    /// To the hello.
    Hello {
        /// The version that the server speaks.
        version: u32,
        /// What serves at this moment; it may be replaced later.
        model: ServedModel,
    },
    /// To [`Request::Infer`](super::Request::Infer): what the model says.
    Result {
        id: u64,
        /// SHA-256 of the manifest of the bundle that ran.
        bundle: [u8; 32],
        /// The rung that ran; 0 is the dense model.
        rung: u8,
        /// The rung's fidelity to the dense model.
        fidelity: f32,
        /// Multiply-accumulates of the rung.
        macs: u64,
        /// The time of the computation.
        #[serde(rename = "latency_nanoseconds")]
        latency: TimeSpan,
        /// From the acceptance of the request to the start of the computation.
        #[serde(rename = "queued_nanoseconds")]
        queued: TimeSpan,
        /// Empty where it was not asked for.
        #[serde(borrow)]
        embedding: Values<'a>,
        /// Empty where they were not asked for, or the model has no classifier.
        logits: Values<'a>,
    },
    /// To [`Request::Infer`](super::Request::Infer): why there is no result. The connection goes on.
    Refused { id: u64, reason: RefusalReason },
    /// To [`Request::Status`](super::Request::Status).
    Status {
        id: u64,
        model: ServedModel,
        rung: u8,
        /// The limit that kept the governor from a larger rung, as the metrics name it; after `supervisor: ` where a
        /// supervisor decided.
        binding: &'a str,
        /// The governor's mode, as the metrics name it.
        mode: &'a str,
        /// How much slower than its profile the board is.
        slowdown: f32,
        /// The least time between two inferences.
        pace: TimeSpan,
        /// Measured in the last pass over the sensors.
        temperature: Option<Temperature>,
        power: Option<Power>,
        /// Frames that wait, of all clients.
        waiting: u32,
    },
    /// The request was carried out; what there is to know about it, for people.
    Done { id: u64, text: &'a str },
    /// The request failed and nothing has changed; why, for people. The connection goes on.
    Failed { id: u64, text: &'a str },
    /// Something is wrong with the connection; why, for people. It is the last message.
    Error { kind: ErrorKind, text: &'a str },
    /// A [`CompanionReport`](super::CompanionReport); only firmware sends it.
    Companion(#[serde(borrow)] Envelope<'a>),
}

/// The model of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedModel {
    /// SHA-256 of the bundle's manifest.
    pub bundle: [u8; 32],
    /// Of the model's input, in pixels. Images of other sizes are resized and cropped.
    pub width: u32,
    pub height: u32,
    /// Values of an embedding.
    pub embed_dim: u32,
    /// Logits; 0 where the model has no classifier.
    pub classes: u32,
    /// Rungs of the ladder.
    pub rungs: u8,
}

/// Why a frame has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RefusalReason {
    /// A newer frame of this client took its place.
    Dropped,
    /// There was no room for it.
    QueueFull,
    /// The server ends.
    ShuttingDown,
    /// The image cannot be made the model's input.
    Image,
    /// The inference failed.
    Failed,
}

/// What is wrong with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A message is not what it must be.
    Malformed,
    /// The client speaks another version.
    Version,
    /// The client began a message and did not end it, or takes no responses.
    Stalled,
    /// No more clients are served.
    TooManyClients,
    /// The server ends.
    ShuttingDown,
}

/// f32 values as little-endian bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    /// Of the bytes of whole values.
    ///
    /// # Errors
    /// If the last one is incomplete.
    pub const fn from_bytes(bytes: &'a [u8]) -> Result<Self, WireError> {
        if bytes.len().is_multiple_of(4) {
            Ok(Self(bytes))
        } else {
            Err(WireError::Values { bytes: bytes.len() as u64 })
        }
    }

    /// The values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = f32> + use<'a> {
        self.0.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Response<'a> {
    /// Reads a message of the server.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(payload: &'a [u8]) -> Result<Self, WireError> {
        let response = decode(payload)?;
        if let Self::Result { embedding, logits, .. } = &response {
            Values::from_bytes(embedding.0)?;
            Values::from_bytes(logits.0)?;
        }
        Ok(response)
    }
}
