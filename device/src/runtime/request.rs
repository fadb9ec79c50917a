//! What a client asks for and what it is told.

use std::sync::Arc;
use std::time::Instant;

use headroom_shared::TimeSpan;

use crate::bundle::Bundle;
#[cfg(feature = "images")]
use crate::images::{PreprocessError, RgbImage};
use crate::rung_engine::RungEngineError;

/// One image.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Frame {
    /// The model's input: normalised, `[channels, height, width]` of its input size. In int8 it becomes the nearest
    /// 8-bit image.
    Pixels(Vec<f32>),
    /// An image of any size, which is preprocessed for the bundle that runs it.
    #[cfg(feature = "images")]
    Rgb(RgbImage),
}

/// The answer to one frame.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reply {
    /// The bundle that ran.
    pub bundle: Arc<Bundle>,
    /// The rung that ran, from the first block to the last.
    pub rung: u8,
    /// Multiply-accumulates of the rung.
    pub macs: u64,
    /// Fidelity of the rung to the dense model, as measured by the host.
    pub fidelity: f32,
    /// From the start of the computation to its end, without preprocessing.
    pub latency: TimeSpan,
    /// From the acceptance of the request to the start of the computation: waiting and preprocessing.
    pub queued: TimeSpan,
    /// The image embedding.
    pub embedding: Vec<f32>,
    /// One value a class, where the model has a classifier.
    pub logits: Option<Vec<f32>>,
}

/// Why a request got no [`Reply`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// [`WhenFull::DropOldest`](super::WhenFull::DropOldest).
    #[error("dropped: a newer request of the same client took its place")]
    Dropped,
    /// There is no room, and the client did not want to wait.
    #[error("the queue is full")]
    QueueFull,
    /// The runtime, or the client, ended before the request was begun.
    #[error("shutting down")]
    ShuttingDown,
    /// The frame does not fit the model, which may have changed since the frame was made.
    #[error("inference failed")]
    Engine(#[from] RungEngineError),
    /// The image cannot be made the model's input.
    #[cfg(feature = "images")]
    #[error("cannot preprocess the image")]
    Preprocess(#[from] PreprocessError),
    /// The inference panicked: a defect, which takes no other request along.
    #[error("inference ended unexpectedly")]
    Lost,
}

/// What every request gets exactly once.
pub type Answer = Result<Reply, Refusal>;

/// Answers one request exactly once: where nobody else does, by being dropped.
pub(super) struct Responder(Option<Box<dyn FnOnce(Answer) + Send>>);

impl Responder {
    pub(super) fn new(answer: impl FnOnce(Answer) + Send + 'static) -> Self {
        Self(Some(Box::new(answer)))
    }

    pub(super) fn answer(mut self, answer: Answer) {
        if let Some(respond) = self.0.take() {
            respond(answer);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(respond) = self.0.take() {
            respond(Err(Refusal::Lost));
        }
    }
}

/// An accepted request.
pub(super) struct Job {
    pub frame: Frame,
    pub accepted: Instant,
    pub responder: Responder,
}
