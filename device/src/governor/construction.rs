//! From profiles and limits to a governor and its first state.

use headroom_shared::{List, Power, TimeSpan};

use super::choice::{Chooser, RungModel};
use super::clock::Clock;
use super::demand::Demand;
use super::heat::HeatLoop;
use super::power_ceiling::PowerCeiling;
use super::power_model::PowerModel;
use super::sensor::Sensor;
use super::slowdown::SlowdownFilter;
use super::{
    Gains, Governor, GovernorError, LimitKind, Limits, Mode, RungProfile, State, normal_quantile, seconds, watts,
};
use crate::reading::{Measurement, Missing, SensorReading};

/// The least share of a rung's energy that is taken to come from the inference itself, whatever idle power is said.
const LEAST_DYNAMIC_SHARE: f32 = 0.05;

/// Which sensors a board has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inputs {
    pub temperature: bool,
    pub power: bool,
}

impl Inputs {
    /// Those of the board that gave `reading`; one that is silent at the moment is there.
    #[must_use]
    pub fn of(reading: &SensorReading) -> Self {
        Self {
            temperature: reading.temperature != Measurement::Missing(Missing::Absent),
            power: reading.power != Measurement::Missing(Missing::Absent),
        }
    }
}

impl Governor {
    /// A governor of these rungs, dense first, with the default [`Gains`].
    ///
    /// # Errors
    /// If profile or limits make no sense together.
    pub fn new(rungs: &[RungProfile], limits: Limits) -> Result<Self, GovernorError> {
        limits.validate()?;
        let mut profiles = List::new();
        for (index, rung) in rungs.iter().enumerate() {
            profiles.push(*rung).map_err(|_| GovernorError::TooManyRungs)?;
            validate_rung(index as u8, rung, &limits)?;
        }
        let best = rungs.iter().map(|rung| rung.fidelity).reduce(f32::max).ok_or(GovernorError::NoRungs)?;
        if let Some(minimum) = limits.minimum_fidelity.filter(|minimum| *minimum > best) {
            return Err(GovernorError::NothingUseful { minimum, best });
        }
        let deviations = limits.deadline.map_or(0.0, |deadline| normal_quantile::upper_quantile(deadline.miss_rate));
        let mut governor =
            Self { profiles, rungs: List::new(), limits, gains: Gains::default(), idle: 0.0, range: 0.0, deviations };
        governor.model_rungs();
        Ok(governor)
    }

    /// With other gains.
    ///
    /// # Errors
    /// If one is no number or outside its range.
    pub fn with_gains(mut self, gains: Gains) -> Result<Self, GovernorError> {
        gains.validate()?;
        self.gains = gains;
        Ok(self)
    }

    /// With what the board draws when it does nothing, as its profile says. It is learnt otherwise, which takes
    /// longer.
    #[must_use]
    pub fn with_idle_power(mut self, idle: Power) -> Self {
        self.idle = watts(idle);
        self.model_rungs();
        self
    }

    /// For a board with these sensors.
    ///
    /// # Errors
    /// If a limit needs one that is not there.
    pub fn with_inputs(self, inputs: Inputs) -> Result<Self, GovernorError> {
        if self.limits.temperature.is_some() && !inputs.temperature {
            return Err(GovernorError::NoSensor { limit: LimitKind::Temperature });
        }
        if self.limits.power.is_some() && !inputs.power {
            return Err(GovernorError::NoSensor { limit: LimitKind::Power });
        }
        Ok(self)
    }

    /// The state before the first step.
    #[must_use]
    pub fn start(&self) -> State {
        State {
            clock: Clock::default(),
            mode: Mode::Normal,
            good_since: None,
            slowdown: SlowdownFilter::default(),
            demand: Demand::default(),
            power_model: PowerModel::new(self.idle, self.range),
            temperature: Sensor::default(),
            power: Sensor::default(),
            heat: HeatLoop::default(),
            ceiling: PowerCeiling::default(),
            chooser: Chooser::new(&self.gains),
            pace: TimeSpan::from_nanoseconds(0),
        }
    }

    /// The state to go on with after limits, gains or ladder have changed: `state` is that of the governor before.
    /// What was learnt of the board is kept; the next step chooses a rung without a dwell.
    #[must_use]
    pub fn carry_on(&self, state: &State) -> State {
        State {
            chooser: Chooser::new(&self.gains),
            power_model: state.power_model.of_another_ladder(self.range),
            ..state.clone()
        }
    }

    /// Works out what the loops need of the profiles and of the idle power.
    fn model_rungs(&mut self) {
        let mut rungs = List::new();
        self.range = 0.0;
        for profile in &self.profiles {
            let latency = seconds(profile.latency);
            let energy = profile.energy.as_microjoules() as f32 * 1e-6;
            let dynamic_energy = (energy - self.idle * latency).max(LEAST_DYNAMIC_SHARE * energy);
            self.range = self.range.max(dynamic_energy / latency);
            let useful = self.limits.minimum_fidelity.is_none_or(|minimum| profile.fidelity >= minimum);
            let rung = RungModel { latency, dynamic_energy, fidelity: profile.fidelity, useful };
            // As many as there are profiles.
            let _ = rungs.push(rung);
        }
        self.rungs = rungs;
    }
}

fn validate_rung(index: u8, rung: &RungProfile, limits: &Limits) -> Result<(), GovernorError> {
    if rung.latency.as_nanoseconds() == 0 {
        return Err(GovernorError::NoLatency { rung: index });
    }
    if !(-1.0..=1.0).contains(&rung.fidelity) {
        return Err(GovernorError::Fidelity { rung: index, found: rung.fidelity });
    }
    match limits.needing_energy() {
        Some(limit) if rung.energy.as_microjoules() == 0 => Err(GovernorError::NoEnergy { rung: index, limit }),
        _ => Ok(()),
    }
}
