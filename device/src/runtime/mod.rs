//! Serving inference all day: one or several workers, a governor and any number of clients, around one bundle that can
//! be replaced while it serves.
//!
//! ```text
//!  clients --> queue --> workers --> answers
//!                ^ pace    | ^ rung, bundle
//!                |         v |
//!  sensors --> governor (about once a second, and after every inference)
//! ```
//! - Every request is answered exactly once: with a [`Reply`] or with a [`Refusal`] that says why there is none. This
//!   holds while bundles are replaced, while the runtime shuts down, and if an inference panics.
//! - One inference never mixes two rungs or two bundles. A switch, of either, takes effect at the next inference.
//! - The queue is bounded ([`WhenFull`]) and keeps the [pace](crate::governor::Decision::pace) that the governor sets.
//! - Threads that have nothing to do sleep; the pass over the sensors is the only thing that wakes up by itself.
//!
//! All inferences are in f32 on the CPU, or in another precision or on a GPU with [`Runtime::builder_with`].
//!
//! What happens can be watched as [`Event`]s. `examples/runtime.rs` is a whole program.

mod client;
mod event;
mod governing;
mod model;
pub mod profile;
mod queue;
mod request;
mod shared;
mod start;
mod worker;

pub use client::Client;
pub use event::Event;
pub use governing::{Advice, Terms};
pub use queue::WhenFull;
pub use request::{Answer, Frame, Refusal, Reply};
pub use start::{Builder, RuntimeError};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::bundle::Bundle;
use crate::governor::{Decision, GovernorError, Limits, RungProfile};
use crate::lock::lock;
use crate::precision::Precision;
use crate::reading::SensorReading;
use crate::rung_engine::RungEngine;
use model::Model;
use shared::Shared;
use start::Profiler;

/// A bundle that serves. Dropping it is [`Runtime::shut_down`].
pub struct Runtime {
    shared: Arc<Shared>,
    profiler: Box<Profiler>,
    precision: Precision,
    threads_of_inference: usize,
    clients: AtomicU64,
    /// Empty after the end.
    threads: Mutex<Threads>,
    /// Bundles are replaced one after another.
    replacing: Mutex<()>,
}

#[derive(Default)]
struct Threads {
    workers: Vec<JoinHandle<()>>,
    /// The governor's, which ends when the sender is dropped.
    governor: Option<(Sender<()>, JoinHandle<()>)>,
}

/// Whether a runtime makes progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Since the governor last took in the sensors.
    pub since_sensors: Duration,
    /// How long the longest inference that has not ended has been running.
    pub longest_inference: Option<Duration>,
}

impl Runtime {
    /// A runtime in f32 to configure, then to [start](Builder::start).
    pub fn builder(bundle: Bundle) -> Builder {
        Builder::new(RungEngine::f32(bundle))
    }

    /// The same as `engine` runs: bundles that replace its own run in the same precision, on the same processor.
    pub fn builder_with(engine: RungEngine) -> Builder {
        Builder::new(engine)
    }

    /// Somebody who sends requests, with a share of the queue of its own.
    #[must_use]
    pub fn client(&self, when_full: WhenFull) -> Client {
        Client::new(self.shared.clone(), self.clients.fetch_add(1, Ordering::Relaxed), when_full)
    }

    /// Runs one frame and waits for its answer.
    ///
    /// # Errors
    /// The [`Refusal`]; of those for want of room, none: this waits.
    pub fn infer(&self, frame: Frame) -> Answer {
        self.client(WhenFull::Wait).infer(frame)
    }

    /// Serves `bundle` from the next inference on. Meanwhile the old one serves, and no request is lost: those that
    /// wait are run by the new one, and [`Frame::Pixels`] that do not fit it are refused.
    ///
    /// This blocks while the bundle is profiled.
    ///
    /// # Errors
    /// If the bundle cannot be run, or a rung of it not in the [precision](Self::precision) that is served, or if it
    /// cannot be governed. The old one then goes on serving.
    pub fn replace_bundle(&self, bundle: Bundle) -> Result<(), RuntimeError> {
        let _one_at_a_time = lock(&self.replacing);
        let engine = self.shared.model().engine.another(bundle)?;
        let profile = (self.profiler)(&engine)?;
        Ok(self.shared.set_model(profile, |generation| Model::new(generation, engine, self.threads_of_inference))?)
    }

    /// Governs within other limits from now on.
    ///
    /// # Errors
    /// If they make no sense. The old ones then hold.
    pub fn set_limits(&self, limits: Limits) -> Result<(), GovernorError> {
        self.shared.set_limits(limits)
    }

    /// The limits that hold.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.shared.with_governing(governing::Governing::limits)
    }

    /// Goes by what a supervisor has decided where that is more careful than the own governor, until it no longer
    /// holds or there is other advice; `None` is that there is no supervisor. Advice for other [`Terms`] is void.
    pub fn advise(&self, advice: Option<Advice>) {
        self.shared.advise(advice);
    }

    /// What a supervisor must know.
    #[must_use]
    pub fn terms(&self) -> Terms {
        self.shared.with_governing(governing::Governing::terms)
    }

    /// The revision of the [`Terms`].
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.shared.with_governing(governing::Governing::revision)
    }

    /// What was decided last.
    #[must_use]
    pub fn decision(&self) -> Decision {
        self.shared.with_governing(governing::Governing::decision)
    }

    /// What the sensors said in the last pass; `None` before the first.
    #[must_use]
    pub fn sensors(&self) -> Option<SensorReading> {
        self.shared.with_governing(governing::Governing::last_sensors)
    }

    /// What the rungs of the bundle that serves cost, as the governor knows it.
    #[must_use]
    pub fn profile(&self) -> Vec<RungProfile> {
        self.shared.with_governing(|governing| governing.profile().to_vec())
    }

    /// The bundle that serves.
    #[must_use]
    pub fn bundle(&self) -> Arc<Bundle> {
        self.shared.model().engine.bundle().clone()
    }

    /// The precision of all inferences.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.queue.len()
    }

    /// Whether there is progress; for watchdogs.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            since_sensors: self.shared.since(&self.shared.governed_at),
            longest_inference: self.shared.longest_inference(),
        }
    }

    /// Ends: refuses what waits and what still comes, finishes the inferences that have begun, and waits for all
    /// threads. Not to be called from an answer or an observer, which run on those threads.
    pub fn shut_down(&self) {
        for job in self.shared.queue.close() {
            self.shared.answer(job.responder, Err(Refusal::ShuttingDown));
        }
        let Threads { workers, governor } = std::mem::take(&mut *lock(&self.threads));
        let governor = governor.map(|(stop, thread)| {
            drop(stop);
            thread
        });
        for thread in workers.into_iter().chain(governor) {
            // A thread that panicked has already said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Takes in the sensors at each period until the sender is dropped.
fn govern(shared: &Shared, sensors: &mut start::Sensors, period: Duration, stop: &Receiver<()>) {
    use std::sync::mpsc::RecvTimeoutError;
    loop {
        shared.sense(sensors(shared.now()));
        match stop.recv_timeout(period) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
