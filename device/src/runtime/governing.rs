//! The governor with what it remembers, and the publication of what it decides.

use std::sync::Arc;

use headroom_shared::TimeSpan;

use super::model::Model;
use crate::governor::{Binding, Decider, Decision, Governor, GovernorError, Limits, Mode, RungProfile, State};
use crate::reading::{InferenceSample, Reading, SensorReading};

/// Makes a governor of what rungs cost and what is allowed.
pub(super) type MakeGovernor = dyn Fn(&[RungProfile], Limits) -> Result<Governor, GovernorError> + Send + Sync;

/// What a supervisor must know of a runtime.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Changes with model and limits.
    pub revision: u64,
    /// What the rungs cost.
    pub profile: Vec<RungProfile>,
    pub limits: Limits,
}

/// What a supervisor beside the device has decided, with sensors of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Advice {
    /// Of the [`Terms`] that it was decided for; for others it is void.
    pub revision: u64,
    pub rung: u8,
    /// The least time between the starts of two inferences.
    pub pace: TimeSpan,
    pub binding: Binding,
    pub mode: Mode,
    /// How long it holds from now on.
    pub valid: TimeSpan,
}

/// The one place where rungs are decided; behind a lock.
pub(super) struct Governing {
    make: Box<MakeGovernor>,
    model: Arc<Model>,
    profile: Vec<RungProfile>,
    governor: Governor,
    state: State,
    /// What the governor decided.
    own: Decision,
    /// What holds: `own`, or the advice where it is more careful.
    decision: Decision,
    /// With the time until which it holds.
    advice: Option<(Advice, TimeSpan)>,
    revision: u64,
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
        let (own, advice, revision) = (decision, None, 0);
        let governing = Self { make, model, profile, governor, state, own, decision, advice, revision, sensors: None };
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
        self.revise();
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
        self.revise();
        Ok(self.again(now))
    }

    /// Goes by `advice` where it is more careful than the governor, for as long as it holds. `None` if nothing changes.
    pub(super) fn advise(&mut self, advice: Option<Advice>, now: TimeSpan) -> Option<Decided> {
        let advice = advice.filter(|advice| advice.revision == self.revision && self.has_rung(advice.rung));
        self.advice = advice.map(|advice| {
            let until = now.as_nanoseconds().saturating_add(advice.valid.as_nanoseconds());
            (advice, TimeSpan::from_nanoseconds(until))
        });
        let decided = self.settle(Reading::default(), now);
        (decided.decision != decided.previous).then_some(decided)
    }

    pub(super) fn terms(&self) -> Terms {
        Terms { revision: self.revision, profile: self.profile.clone(), limits: self.limits() }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    fn has_rung(&self, rung: u8) -> bool {
        usize::from(rung) < self.profile.len()
    }

    /// What was decided for other rungs or limits is void.
    fn revise(&mut self) {
        self.revision += 1;
        self.advice = None;
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
        self.own = self.governor.step(&mut self.state, &reading, now);
        self.settle(reading, now)
    }

    /// Puts the more careful of governor and advice into effect.
    fn settle(&mut self, reading: Reading, now: TimeSpan) -> Decided {
        let previous = self.decision;
        self.advice = self.advice.filter(|(_, until)| now < *until);
        self.decision = self.advice.map_or(self.own, |(advice, _)| more_careful(self.own, &advice));
        self.publish();
        Decided { reading, decision: self.decision, previous, now }
    }

    fn publish(&self) {
        // The governor was made for the rungs of this model, so that the rung exists.
        let published = self.model.active.set(usize::from(self.decision.rung));
        debug_assert_eq!(published, Ok(()));
    }
}

/// The smaller rung and the longer pause of both; `own` where the advice asks for nothing more.
fn more_careful(own: Decision, advice: &Advice) -> Decision {
    if advice.rung <= own.rung && advice.pace <= own.pace {
        return own;
    }
    Decision {
        rung: own.rung.max(advice.rung),
        pace: own.pace.max(advice.pace),
        binding: advice.binding,
        mode: own.mode.max(advice.mode),
        decider: Decider::Supervisor,
        ..own
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::governor::Slowdown;

    proptest! {
        #[test]
        fn advice_makes_no_decision_less_careful(rungs: [u8; 2], paces: [u32; 2], modes in [0usize..3, 0..3]) {
            let [own_pace, pace] = paces.map(|pace| TimeSpan::from_nanoseconds(pace.into()));
            let [own_mode, mode] = modes.map(|mode| Mode::ALL[mode]);
            let own = Decision {
                rung: rungs[0],
                pace: own_pace,
                binding: Binding::Deadline,
                mode: own_mode,
                slowdown: Slowdown { mean: 1.0, standard_deviation: 0.0 },
                power_budget: None,
                decider: Decider::Own,
            };
            let valid = TimeSpan::from_nanoseconds(1);
            let advice = Advice { revision: 0, rung: rungs[1], pace, binding: Binding::Temperature, mode, valid };
            let both = more_careful(own, &advice);
            prop_assert_eq!(both.rung, own.rung.max(advice.rung));
            prop_assert_eq!(both.pace, own.pace.max(advice.pace));
            prop_assert!(both.mode >= own.mode);
            prop_assert_eq!(both == own, both.decider == Decider::Own);
        }
    }
}
