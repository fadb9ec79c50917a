//! The governor with what it remembers, and the publication of what it decides.

use std::sync::Arc;

use headroom_shared::TimeSpan;

use super::model::Model;
use crate::governor::{Decision, Governor, GovernorError, Limits, RungProfile, State};
use crate::reading::{InferenceSample, Reading, SensorReading};

/// Makes a governor of what rungs cost and what is allowed.
pub(super) type MakeGovernor = dyn Fn(&[RungProfile], Limits) -> Result<Governor, GovernorError> + Send + Sync;

/// The one place where rungs are decided; behind a lock.
pub(super) struct Governing {
    make: Box<MakeGovernor>,
    model: Arc<Model>,
    profile: Vec<RungProfile>,
    governor: Governor,
    state: State,
    decision: Decision,
    /// Of the last pass, for decisions that cannot wait for the next one.
    sensors: Option<SensorReading>,
}

/// A step of the governor: what it was told and what it answered.
#[derive(Clone, Copy)]
pub(super) struct Decided {
    pub reading: Reading,
    pub decision: Decision,
    pub previous: Decision,
    pub now: TimeSpan,
}

impl Governing {
    /// Decides for the first time, knowing nothing.
    pub(super) fn new(
        make: Box<MakeGovernor>,
        model: Arc<Model>,
        profile: Vec<RungProfile>,
        limits: Limits,
    ) -> Result<Self, GovernorError> {
        let governor = make(&profile, limits)?;
        let mut state = governor.start();
        let decision = governor.step(&mut state, &Reading::default(), TimeSpan::from_nanoseconds(0));
        let governing = Self { make, model, profile, governor, state, decision, sensors: None };
        governing.publish();
        Ok(governing)
    }

    /// Takes in the latency of an inference of the bundle `generation`; `None` if another serves by now, of which it
    /// says nothing.
    pub(super) fn inference(&mut self, generation: u64, sample: InferenceSample, now: TimeSpan) -> Option<Decided> {
        (generation == self.model.generation)
            .then(|| self.step(Reading { inference: Some(sample), ..Reading::default() }, now))
    }

    /// Takes in a pass over the sensors.
    pub(super) fn sensors(&mut self, sensors: SensorReading, now: TimeSpan) -> Decided {
        self.sensors = Some(sensors);
        self.step(Reading { sensors: Some(sensors), ..Reading::default() }, now)
    }

    /// Changes the limits and decides at once; with an error nothing changes.
    pub(super) fn set_limits(&mut self, limits: Limits, now: TimeSpan) -> Result<Decided, GovernorError> {
        self.governor = (self.make)(&self.profile, limits)?;
        self.state = self.governor.carry_on(&self.state);
        Ok(self.again(now))
    }

    /// Governs another model, with what was learnt of the board, and decides at once; with an error nothing changes.
    pub(super) fn set_model(
        &mut self,
        model: Arc<Model>,
        profile: Vec<RungProfile>,
        now: TimeSpan,
    ) -> Result<Decided, GovernorError> {
        self.governor = (self.make)(&profile, *self.governor.limits())?;
        self.state = self.governor.carry_on(&self.state);
        self.model = model;
        self.profile = profile;
        Ok(self.again(now))
    }

    pub(super) fn decision(&self) -> Decision {
        self.decision
    }

    pub(super) fn last_sensors(&self) -> Option<SensorReading> {
        self.sensors
    }

    pub(super) fn limits(&self) -> Limits {
        *self.governor.limits()
    }

    pub(super) fn profile(&self) -> &[RungProfile] {
        &self.profile
    }

    /// Decides on what the sensors said last.
    fn again(&mut self, now: TimeSpan) -> Decided {
        self.step(Reading { sensors: self.sensors, ..Reading::default() }, now)
    }

    fn step(&mut self, reading: Reading, now: TimeSpan) -> Decided {
        let previous = self.decision;
        self.decision = self.governor.step(&mut self.state, &reading, now);
        self.publish();
        Decided { reading, decision: self.decision, previous, now }
    }

    fn publish(&self) {
        // The governor was made for the rungs of this model, so that the rung exists.
        let published = self.model.active.set(usize::from(self.decision.rung));
        debug_assert_eq!(published, Ok(()));
    }
}
