//! Companion mode: governs a board with Linux, by the sensors of this one.

use core::fmt::Write;

use headroom_device::governor::{
    Decision, Governor, GovernorError, Inputs, Limits, RungProfile, State, TemperatureLimits,
};
use headroom_device::reading::{InferenceSample, Reading, SensorReading};
use headroom_shared::wire::companion::{HOST_PATIENCE, RungCosts, SupervisedLimits};
use headroom_shared::wire::{CompanionReport, CompanionRequest};
use headroom_shared::{List, MAX_RUNGS, Power, TimeSpan};

use crate::serving::Sentence;

/// How long a decision holds: two may be lost.
const VALID: TimeSpan = TimeSpan::from_nanoseconds(3_000_000_000);

/// A session with a host.
pub struct Supervision {
    session: u32,
    /// Of the last decision that was sent.
    number: u32,
    governor: Governor,
    state: State,
    decision: Decision,
    sensors: SensorReading,
    inputs: Inputs,
    /// When the host was last heard.
    heard: TimeSpan,
}

/// Why a host is not supervised.
pub enum Unsupervised {
    Governor(GovernorError),
    NoSensor,
}

impl Unsupervised {
    pub fn sentence(&self) -> Sentence {
        let mut text = Sentence::new();
        // What does not fit is cut off.
        let _ = match self {
            Self::Governor(error) => write!(text, "{error}"),
            Self::NoSensor => write!(text, "this board has no sensor for any of the limits"),
        };
        text
    }
}

impl Supervision {
    /// Begins `session` for a host with these rungs, on what the sensors say now. Of the session `before`, what was
    /// learnt is kept.
    pub fn begin(
        (session, idle, limits, rungs): (u32, Power, &SupervisedLimits, &RungCosts<'_>),
        before: Option<&Self>,
        sensors: SensorReading,
        now: TimeSpan,
    ) -> Result<Self, Unsupervised> {
        let inputs = Inputs::of(&sensors);
        let limits = limits_of(limits, inputs);
        if limits.temperature.is_none() && limits.power.is_none() {
            return Err(Unsupervised::NoSensor);
        }
        let mut profiles = List::<RungProfile, MAX_RUNGS>::new();
        for rung in rungs.iter() {
            let profile = RungProfile { latency: rung.latency, energy: rung.energy, fidelity: rung.fidelity };
            profiles.push(profile).map_err(|_| Unsupervised::Governor(GovernorError::TooManyRungs))?;
        }
        let governor = Governor::new(&profiles, limits).map_err(Unsupervised::Governor)?.with_idle_power(idle);
        let mut state = before.map_or_else(|| governor.start(), |before| governor.carry_on(&before.state));
        let reading = Reading { sensors: Some(sensors), inference: None };
        let decision = governor.step(&mut state, &reading, now);
        Ok(Self { session, number: 0, governor, state, decision, sensors, inputs, heard: now })
    }

    /// What the hello is answered.
    pub fn accepted(&self, board: &'static str) -> CompanionReport<'static> {
        let limits = self.governor.limits();
        CompanionReport::Accepted {
            version: headroom_shared::wire::companion::VERSION,
            session: self.session,
            board,
            watches_temperature: self.inputs.temperature && limits.temperature.is_some(),
            watches_power: self.inputs.power && limits.power.is_some(),
        }
    }

    /// Takes in telemetry; `false` if it is of another session.
    pub fn take(&mut self, telemetry: &CompanionRequest<'_>, now: TimeSpan) -> bool {
        let CompanionRequest::Telemetry { session, rung, inferences, latency } = *telemetry else { return false };
        if session != self.session {
            return false;
        }
        self.heard = now;
        self.governor.take_several(&mut self.state, &InferenceSample { rung, latency }, inferences);
        true
    }

    /// Decides after a pass over the sensors.
    pub fn sense(&mut self, sensors: SensorReading, now: TimeSpan) {
        self.sensors = sensors;
        let reading = Reading { sensors: Some(sensors), inference: None };
        self.decision = self.governor.step(&mut self.state, &reading, now);
    }

    /// The decision of the moment, as a new message.
    pub fn report(&mut self) -> CompanionReport<'static> {
        // After 136 years the host takes the numbers for old ones and begins a new session.
        self.number = self.number.saturating_add(1);
        CompanionReport::Decision {
            session: self.session,
            number: self.number,
            rung: self.decision.rung,
            pace: self.decision.pace,
            binding: self.decision.binding.name(),
            mode: self.decision.mode.name(),
            valid: VALID,
            temperature: self.sensors.temperature.value(),
            power: self.sensors.power.value(),
        }
    }

    /// Whether the host has been silent for too long.
    pub fn is_silent(&self, now: TimeSpan) -> bool {
        now.as_nanoseconds().saturating_sub(self.heard.as_nanoseconds()) > HOST_PATIENCE.as_nanoseconds()
    }
}

/// The limits that there is a sensor for.
fn limits_of(limits: &SupervisedLimits, inputs: Inputs) -> Limits {
    let temperature = limits.temperature.filter(|_| inputs.temperature);
    Limits {
        temperature: temperature.map(|temperatures| TemperatureLimits {
            target: temperatures.target,
            passive: temperatures.passive,
            critical: temperatures.critical,
        }),
        power: limits.power.filter(|_| inputs.power),
        minimum_fidelity: limits.minimum_fidelity,
        ..Limits::default()
    }
}
