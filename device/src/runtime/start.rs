//! Configuring and starting a runtime.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use headroom_shared::TimeSpan;

use super::event::Event;
use super::governing::{Governing, MakeGovernor};
use super::model::Model;
use super::queue::Queue;
use super::shared::{Observer, Shared};
use super::{Runtime, govern, profile, worker};
use crate::governor::{Governor, GovernorError, Limits, RungProfile};
use crate::lock::lock;
use crate::reading::SensorReading;
use crate::rung_engine::{RungEngine, RungEngineError};

/// Reads the sensors at a moment of the runtime's clock.
pub(super) type Sensors = Box<dyn FnMut(TimeSpan) -> SensorReading + Send>;

/// Says what each rung of a bundle costs.
pub(super) type Profiler = dyn Fn(&RungEngine) -> Result<Vec<RungProfile>, RungEngineError> + Send + Sync;

/// Why a bundle cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A rung does not run, or not in the precision that is served.
    #[error("the bundle cannot be run")]
    Engine(#[from] RungEngineError),
    /// Profile and limits make no sense together.
    #[error("the bundle cannot be governed within these limits")]
    Governor(#[from] GovernorError),
    /// The operating system gives no thread.
    #[error("cannot start a thread")]
    Thread(#[from] std::io::Error),
}

/// A runtime before it starts. Made by [`Runtime::builder`].
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    engine: RungEngine,
    limits: Limits,
    workers: usize,
    threads: usize,
    queue_capacity: usize,
    sensors: Sensors,
    sensor_period: Duration,
    /// The default one needs to know the threads.
    profiler: Option<Box<Profiler>>,
    make_governor: Box<MakeGovernor>,
    observer: Observer,
}

impl Builder {
    pub(super) fn new(engine: RungEngine) -> Self {
        Self {
            engine,
            limits: Limits::default(),
            workers: 1,
            threads: 1,
            queue_capacity: 64,
            sensors: Box::new(|_| SensorReading::ABSENT),
            sensor_period: Duration::from_secs(1),
            profiler: None,
            make_governor: Box::new(Governor::new),
            observer: Box::new(|_| {}),
        }
    }

    /// What inference may cost; the default is no limit.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Inferences that run at the same time, each on a thread and a workspace of its own: at least 1, which is the
    /// default. More of them raise throughput and the latency of each.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Threads that share each inference, that of the worker counted: at least 1, which is the default. More of them
    /// lower the latency; workers times threads should not be more than there are free cores.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Requests that may wait, of all clients together: at least 1; the default is 64.
    pub fn queue_capacity(mut self, capacity: usize) -> Self {
        self.queue_capacity = capacity.max(1);
        self
    }

    /// What reads the sensors, at the given time since the start; the default knows none.
    pub fn sensors(mut self, read: impl FnMut(TimeSpan) -> SensorReading + Send + 'static) -> Self {
        self.sensors = Box::new(read);
        self
    }

    /// The time between two passes over the sensors; the default is one second.
    pub fn sensor_period(mut self, period: Duration) -> Self {
        self.sensor_period = period;
        self
    }

    /// What says how long each rung of a bundle takes on this machine, dense first; called at the start and for each
    /// new bundle. The default is [`profile::timed`] within about a second.
    pub fn profiler(
        mut self,
        profiler: impl Fn(&RungEngine) -> Result<Vec<RungProfile>, RungEngineError> + Send + Sync + 'static,
    ) -> Self {
        self.profiler = Some(Box::new(profiler));
        self
    }

    /// What makes a governor of what rungs cost and what is allowed: at the start, for other limits and for each new
    /// bundle. The default is [`Governor::new`].
    pub fn governor(
        mut self,
        make: impl Fn(&[RungProfile], Limits) -> Result<Governor, GovernorError> + Send + Sync + 'static,
    ) -> Self {
        self.make_governor = Box::new(make);
        self
    }

    /// Whoever is told of every [`Event`]. It is called from all threads of the runtime and must be quick.
    pub fn observer(mut self, observer: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// Profiles the bundle and starts the threads.
    ///
    /// # Errors
    /// If the bundle cannot be run, the limits make no sense or there is no thread.
    pub fn start(self) -> Result<Runtime, RuntimeError> {
        let threads = self.threads;
        let profiler =
            self.profiler.unwrap_or_else(|| Box::new(move |engine| profile::timed(engine, threads, profile::TIMING)));
        let profile = profiler(&self.engine)?;
        let precision = self.engine.precision();
        let model = Arc::new(Model::new(1, self.engine, threads));
        let governing = Governing::new(self.make_governor, model.clone(), profile, self.limits)?;
        let queue = Queue::new(self.queue_capacity);
        let shared = Arc::new(Shared::new(model, governing, queue, self.observer, self.workers));
        let runtime = Runtime {
            shared: shared.clone(),
            profiler,
            precision,
            threads_of_inference: threads,
            clients: AtomicU64::new(0),
            threads: Mutex::default(),
            replacing: Mutex::new(()),
        };
        // An error drops the runtime, which ends the threads that did start.
        for number in 0..self.workers {
            let shared = shared.clone();
            let thread = thread::Builder::new().name(format!("worker {number}"));
            let worker = thread.spawn(move || worker::work(&shared, number))?;
            lock(&runtime.threads).workers.push(worker);
        }
        let (stop, stopped) = mpsc::channel();
        let (mut sensors, period) = (self.sensors, self.sensor_period);
        let thread = thread::Builder::new().name("governor".into());
        let governor = thread.spawn(move || govern(&shared, &mut sensors, period, &stopped))?;
        lock(&runtime.threads).governor = Some((stop, governor));
        Ok(runtime)
    }
}
