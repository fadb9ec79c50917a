//! Watches a runtime: metrics, flight record and log.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use headroom_shared::TimeSpan;

use super::control::{Control, Controls, Report};
use crate::flight_record::{self, FlightRecord, Reloaded};
use crate::governor::{Decision, Mode};
use crate::lock::lock;
use crate::metrics::{Metrics, Outcome};
use crate::precision::Precision;
use crate::reading::InferenceSample;
use crate::runtime::{Event, Refusal};
use crate::supervisor_link::{FrameCounts, LinkState, Measured};

/// Events that the flight record keeps: at one a second and a few for each change, half an hour.
const REMEMBERED: usize = 4096;

/// What is written down of what a runtime does.
pub(super) struct Watcher {
    pub metrics: Arc<Metrics>,
    record: Mutex<FlightRecord>,
    record_path: Option<PathBuf>,
    deadline: Mutex<Option<TimeSpan>>,
    precision: Precision,
    controls: Controls,
    /// Where the link to the supervisor stands.
    link: Mutex<Option<LinkState>>,
    started: Instant,
}

impl Watcher {
    pub(super) fn new(
        record_path: Option<PathBuf>,
        deadline: Option<TimeSpan>,
        precision: Precision,
        controls: Controls,
    ) -> Self {
        Self {
            metrics: Arc::new(Metrics::new()),
            record: Mutex::new(FlightRecord::new(REMEMBERED)),
            record_path,
            deadline: Mutex::new(deadline),
            precision,
            controls,
            link: Mutex::default(),
            started: Instant::now(),
        }
    }

    /// Takes in what happened.
    pub(super) fn see(&self, event: &Event<'_>) {
        match event {
            Event::Decided { reading, decision, previous, waiting, .. } => {
                self.metrics.count_decision(decision);
                self.metrics.set_queue_length(*waiting);
                if let Some(sensors) = &reading.sensors {
                    self.metrics.set_sensors(sensors);
                    self.remember(flight_record::Event::Sensors(*sensors));
                }
                let essence = |decision: &Decision| (decision.rung, decision.binding, decision.mode, decision.decider);
                let changed = essence(decision) != essence(previous);
                if changed || reading.sensors.is_some() {
                    self.remember(flight_record::Event::Decision(**decision));
                }
                if decision.rung != previous.rung {
                    self.remember(flight_record::Event::Switch { from: previous.rung, to: decision.rung });
                }
                if decision.mode != previous.mode {
                    self.mode_changed(previous.mode, decision.mode);
                }
            }
            Event::Answered(reply) => {
                let deadline = *lock(&self.deadline);
                let missed = deadline.filter(|deadline| reply.latency > *deadline);
                self.metrics.count_inference(reply.latency, missed.is_some());
                self.metrics.count_request(Outcome::Answered);
                if let Some(deadline) = missed {
                    let sample = InferenceSample { rung: reply.rung, latency: reply.latency };
                    self.remember(flight_record::Event::Miss { sample, deadline });
                }
            }
            Event::Refused(refusal) => self.metrics.count_request(outcome(refusal)),
            Event::BundleServes { bundle, profile } => {
                self.metrics.set_bundle(&bundle.manifest().target, bundle.hash(), self.precision);
                anstream::eprintln!("serving bundle {:.12} with {} rungs", bundle.hash(), profile.len());
            }
            Event::LimitsHold(limits) => {
                *lock(&self.deadline) = limits.deadline.map(|deadline| deadline.latency);
            }
        }
    }

    /// Where the link to the supervisor stands, and what it last measured.
    pub(super) fn supervisor(&self, state: LinkState, counts: FrameCounts, measured: Measured) {
        self.metrics.set_supervisor(state, counts, measured);
        if lock(&self.link).replace(state) != Some(state) {
            self.remember(flight_record::Event::Supervisor { link: state.name() });
        }
    }

    /// That something was read again.
    pub(super) fn reloaded(&self, what: Reloaded, accepted: bool) {
        self.remember(flight_record::Event::Reload { what, accepted });
    }

    /// Writes the flight record; says where, or why not.
    pub(super) fn dump(&self) -> Result<String, String> {
        let Some(path) = &self.record_path else { return Err("there is no --flight-record FILE to write to".into()) };
        // A copy, so that a slow disk holds up nobody.
        let record = lock(&self.record).clone();
        match record.write(path, self.now()) {
            Ok(()) => Ok(format!("wrote the flight record to {}", path.display())),
            Err(error) => Err(format!("{error}: {}", error.source)),
        }
    }

    fn mode_changed(&self, from: Mode, to: Mode) {
        anstream::eprintln!("the governor goes from mode {} to {}", from.name(), to.name());
        self.remember(flight_record::Event::Mode { from, to });
        if to == Mode::Emergency && self.record_path.is_some() {
            self.controls.send(Control::Dump(Report::to_nobody()));
        }
    }

    fn remember(&self, event: flight_record::Event) {
        let now = self.now();
        lock(&self.record).record(now, event);
    }

    fn now(&self) -> TimeSpan {
        self.started.elapsed().into()
    }
}

fn outcome(refusal: &Refusal) -> Outcome {
    match refusal {
        Refusal::Dropped => Outcome::Dropped,
        Refusal::QueueFull | Refusal::ShuttingDown | Refusal::Preprocess(_) => Outcome::Refused,
        Refusal::Engine(_) | Refusal::Lost => Outcome::Failed,
    }
}
