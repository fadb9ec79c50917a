//! What the threads of a runtime share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use headroom_shared::TimeSpan;

use super::event::Event;
use super::governing::{Advice, Decided, Governing};
use super::model::Model;
use super::queue::Queue;
use super::request::{Answer, Job, Responder};
use crate::governor::{GovernorError, Limits, RungProfile};
use crate::lock::lock;
use crate::reading::{InferenceSample, SensorReading};

/// Whoever watches.
pub(super) type Observer = Box<dyn Fn(&Event<'_>) + Send + Sync>;

pub(super) struct Shared {
    pub queue: Queue<Job>,
    /// What the next inference runs. Where both locks are held, `governing` was taken first.
    model: Mutex<Arc<Model>>,
    governing: Mutex<Governing>,
    observer: Observer,
    /// The zero of the governor's time.
    started: Instant,
    /// When each worker began what it is doing, in nanoseconds since `started`; [`IDLE`] where it waits.
    busy_since: Vec<AtomicU64>,
    /// When the governor last took in the sensors.
    pub governed_at: AtomicU64,
}

const IDLE: u64 = u64::MAX;

impl Shared {
    pub(super) fn new(
        model: Arc<Model>,
        governing: Governing,
        queue: Queue<Job>,
        observer: Observer,
        workers: usize,
    ) -> Self {
        let shared = Self {
            queue,
            model: Mutex::new(model),
            governing: Mutex::new(governing),
            observer,
            started: Instant::now(),
            busy_since: (0..workers).map(|_| AtomicU64::new(IDLE)).collect(),
            governed_at: AtomicU64::new(0),
        };
        let (decision, profile) = {
            let governing = lock(&shared.governing);
            (governing.decision(), governing.profile().to_vec())
        };
        shared.queue.set_pace(decision.pace.into());
        (shared.observer)(&Event::BundleServes { bundle: &shared.model().bundle, profile: &profile });
        shared
    }

    pub(super) fn now(&self) -> TimeSpan {
        self.started.elapsed().into()
    }

    pub(super) fn model(&self) -> Arc<Model> {
        lock(&self.model).clone()
    }

    pub(super) fn with_governing<T>(&self, read: impl FnOnce(&Governing) -> T) -> T {
        read(&lock(&self.governing))
    }

    /// Tells the governor how long an inference took.
    pub(super) fn learn(&self, generation: u64, sample: InferenceSample) {
        let decided = self.govern(|governing, now| governing.inference(generation, sample, now));
        if let Some(decided) = decided {
            self.tell(&decided);
        }
    }

    /// Tells the governor what the sensors say.
    pub(super) fn sense(&self, sensors: SensorReading) {
        let decided = self.govern(|governing, now| Some(governing.sensors(sensors, now)));
        if let Some(decided) = decided {
            self.governed_at.store(decided.now.as_nanoseconds(), Ordering::Relaxed);
            self.tell(&decided);
        }
    }

    pub(super) fn set_limits(&self, limits: Limits) -> Result<(), GovernorError> {
        let decided = self.govern(|governing, now| governing.set_limits(limits, now))?;
        (self.observer)(&Event::LimitsHold(&limits));
        self.tell(&decided);
        Ok(())
    }

    /// The next inference runs the model that `make` gives, which gets the number of its generation.
    pub(super) fn set_model(
        &self,
        profile: Vec<RungProfile>,
        make: impl FnOnce(u64) -> Model,
    ) -> Result<(), GovernorError> {
        let (decided, model) = self.govern(|governing, now| {
            let model = Arc::new(make(self.model().generation + 1));
            let decided = governing.set_model(model.clone(), profile.clone(), now)?;
            *lock(&self.model) = model.clone();
            Ok::<_, GovernorError>((decided, model))
        })?;
        (self.observer)(&Event::BundleServes { bundle: &model.bundle, profile: &profile });
        self.tell(&decided);
        Ok(())
    }

    /// Takes what a supervisor has decided, or that there is none.
    pub(super) fn advise(&self, advice: Option<Advice>) {
        if let Some(decided) = self.govern(|governing, now| governing.advise(advice, now)) {
            self.tell(&decided);
        }
    }

    pub(super) fn answer(&self, responder: Responder, answer: Answer) {
        (self.observer)(&match &answer {
            Ok(reply) => Event::Answered(reply),
            Err(refusal) => Event::Refused(refusal),
        });
        responder.answer(answer);
    }

    pub(super) fn begins(&self, worker: usize) {
        self.busy_since[worker].store(self.now().as_nanoseconds(), Ordering::Relaxed);
    }

    pub(super) fn ends(&self, worker: usize) {
        self.busy_since[worker].store(IDLE, Ordering::Relaxed);
    }

    /// How long ago `at` nanoseconds on the runtime's clock were.
    pub(super) fn since(&self, at: &AtomicU64) -> Duration {
        Duration::from_nanos(self.now().as_nanoseconds().saturating_sub(at.load(Ordering::Relaxed)))
    }

    /// How long the longest inference that has not ended has been running.
    pub(super) fn longest_inference(&self) -> Option<Duration> {
        let busy = self.busy_since.iter().filter(|since| since.load(Ordering::Relaxed) != IDLE);
        busy.map(|since| self.since(since)).max()
    }

    /// A step of the governor; what it decides holds before anybody else can step.
    fn govern<T>(&self, step: impl FnOnce(&mut Governing, TimeSpan) -> T) -> T {
        let mut governing = lock(&self.governing);
        let outcome = step(&mut governing, self.now());
        self.queue.set_pace(governing.decision().pace.into());
        outcome
    }

    fn tell(&self, decided: &Decided) {
        let Decided { reading, decision, previous, now } = decided;
        let waiting = self.queue.len();
        (self.observer)(&Event::Decided { reading, decision, previous, now: *now, waiting });
    }
}
