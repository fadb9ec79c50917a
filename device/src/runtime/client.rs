//! Somebody who sends requests to a runtime.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use super::queue::{Pushed, WhenFull};
use super::request::{Answer, Frame, Job, Refusal, Responder};
use super::shared::Shared;

/// Somebody who sends requests, such as one camera. Dropping it refuses what it still has waiting; it may outlive the
/// runtime, which then refuses everything.
pub struct Client {
    shared: Arc<Shared>,
    number: u64,
    when_full: WhenFull,
    most_waiting: usize,
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>, number: u64, when_full: WhenFull) -> Self {
        Self { shared, number, when_full, most_waiting: 1 }
    }

    /// Lets so many requests of this client wait at a time, at least 1, which is the default: with
    /// [`WhenFull::DropOldest`] a second one would only be older.
    #[must_use]
    pub fn with_most_waiting(mut self, most: usize) -> Self {
        self.most_waiting = most.max(1);
        self
    }

    /// Sends a frame. `answer` is called exactly once: possibly before this returns, and otherwise from the thread of
    /// a worker, so that it must be quick and must not wait for another answer.
    pub fn submit(&self, frame: Frame, answer: impl FnOnce(Answer) + Send + 'static) {
        let job = Job { frame, accepted: Instant::now(), responder: Responder::new(answer) };
        let (refused, refusal) = match self.shared.queue.push(self.number, self.most_waiting, self.when_full, job) {
            Pushed::Accepted => return,
            Pushed::AcceptedInsteadOf(older) => (older, Refusal::Dropped),
            Pushed::Full(job) => (job, Refusal::QueueFull),
            Pushed::Closed(job) => (job, Refusal::ShuttingDown),
        };
        self.shared.answer(refused.responder, Err(refusal));
    }

    /// Sends a frame and waits for its answer.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn infer(&self, frame: Frame) -> Answer {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.submit(frame, move |answer| {
            // The receiver waits below.
            let _ = sender.send(answer);
        });
        receiver.recv().unwrap_or(Err(Refusal::Lost))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        for job in self.shared.queue.take_all_of(self.number) {
            self.shared.answer(job.responder, Err(Refusal::ShuttingDown));
        }
    }
}
