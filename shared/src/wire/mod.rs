//! The wire format between `device-run --serve` and its clients, over a stream such as a Unix socket.
//!
//! # Messages
//! ```text
//! +----------------+----------------------------+
//! | length, u32 LE | one postcard value         |   again and again, in both directions
//! | 4 bytes        | `length` bytes             |
//! +----------------+----------------------------+
//! ```
//! A client sends [`Request`]s, the server [`Response`]s. In postcard an enum is its variant's number, integers above 8
//! bits are variable-length (7 bits a byte, low ones first), bytes and texts begin with their length. f32 values travel
//! as their little-endian bytes ([`Values`]).
//!
//! # A conversation
//! 1. The client says [`Request::Hello`] with the [`VERSION`] that it speaks; the first 13 bytes of the hello are the same in every
//!    version. The server answers [`Response::Hello`], or [`Response::Error`] that names both versions.
//! 2. The client sends requests, each with an id that it chooses, without having to wait for responses. Every request
//!    gets exactly one response with its id, in any order: [`Result`](Response::Result) or
//!    [`Refused`](Response::Refused) for a frame, [`Status`](Response::Status), [`Done`](Response::Done) or
//!    [`Failed`](Response::Failed) for the others.
//! 3. The client hangs up when it likes. What it has still waiting is dropped.
//!
//! A message that is not what it must be (too long, not postcard, bytes left over, the wrong number of pixels, a second
//! hello) is answered by one [`Response::Error`], after which the server hangs up: what follows cannot be trusted.
//! The server reads no further request of a client while [`MAX_UNANSWERED`] of its responses are not yet taken.
//!
//! # Limits
//! [`MAX_REQUEST_BYTES`], [`MAX_HELLO_BYTES`] before the hello is accepted, [`MAX_RESPONSE_BYTES`], [`MAX_UNANSWERED`].
//! A length above the limit is refused before anything is read or reserved for it.
//!
//! # A worked example
//! A client whose newest frame counts sends a red and a blue pixel and asks for the embedding, which is 2 values wide.
//! The same bytes are the golden test `shared/tests/wire/golden.rs`.
//! ```text
//! to the server:
//! 0f 00 00 00                 15 bytes
//! 00                          Hello
//! 48 45 41 44 52 4f 4f 4d     magic "HEADROOM"
//! 01 00 00 00                 version 1, of fixed width
//! 00 01                       when full drop the oldest; 1 may wait
//!
//! 0d 00 00 00                 13 bytes
//! 01 80 02                    Infer, id 256
//! 02 01 00                    2 x 1 pixels; the embedding only
//! 06 ff 00 00 00 00 ff        6 bytes: red, blue
//!
//! to the client, after the hello:
//! 39 00 00 00                 57 bytes
//! 01 80 02                    Result, id 256
//! ab ab ab ab ab ab ab ab     SHA-256 of the bundle's manifest
//! ab ab ab ab ab ab ab ab
//! ab ab ab ab ab ab ab ab
//! ab ab ab ab ab ab ab ab
//! 03                          rung 3
//! 00 00 40 3f                 fidelity 0.75
//! d0 0f                       2000 MACs
//! c0 84 3d e8 07              computed in 1,000,000 ns after waiting for 1000 ns
//! 08 00 00 80 3f 00 00 00 c0  embedding: 8 bytes, 1.0 and -2.0
//! 00                          no logits
//! ```
//!
//! Firmware speaks the same messages over a serial line, in frames of their own kind ([`serial`]). It can also supervise
//! a board with Linux ([`companion`]).
//!
//! # Compatibility
//! Any change to a message is a new version, and new variants are only appended.

pub mod companion;
mod error;
mod framing;
mod receiver;
mod request;
mod response;
pub mod serial;

pub use companion::{CompanionReport, CompanionRequest, Envelope, RungCost, RungCosts};
pub use error::WireError;
pub use framing::{LENGTH_BYTES, decode, encode, encoded_length, payload_length};
pub use request::{HELLO_MAGIC, Outputs, Request, WhenFull};
pub use response::{ErrorKind, RefusalReason, Response, ServedModel, Values};
pub use serial::SerialRequest;

/// The version that this crate speaks.
pub const VERSION: u32 = 1;

/// Bytes of the longest request: an image of 3840 x 2160 pixels, with room.
pub const MAX_REQUEST_BYTES: u32 = 32 << 20;

/// Bytes of the longest first message; a hello needs fewer in every version.
pub const MAX_HELLO_BYTES: u32 = 64;

/// Bytes of the longest response: embedding and logits of 500,000 values together.
pub const MAX_RESPONSE_BYTES: u32 = 2 << 20;

/// Responses that a client may leave unread before the server stops reading its requests.
pub const MAX_UNANSWERED: usize = 64;
