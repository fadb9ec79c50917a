//! Turns headroom into the active rung: a pure function of state, reading and time.
//!
//! Two loops say what is allowed. The time loop ([`slowdown`]) runs with every
//! inference, because latency is the fastest signal and often the only one. The
//! [`heat`] loop runs with every pass over the sensors, about once a second, and
//! turns degrees into watts; the [`power_model`] and the [`demand`] say how many
//! watts a rung would draw. Then the [`choice`] takes the rung of the highest
//! fidelity that fits everything.
//!
//! [`Mode`] is the state that the loops work in:
//!
//! ```text
//!               a sensor that a limit needs is lost for
//!               `sensor_patience`
//!           ┌───────────────────────────────────────────┐
//!           │                                           ▼
//!   ┌───► Normal                                       Safe
//!   │       │ ▲                                         │ │
//!   │       │ └─────────────────────────────────────────┘ │
//!   │       │      all sensors good for `sensor_patience` │
//!   │       │                                             │
//!   │       │ near critical                 near critical │
//!   │       └──────────────► Emergency ◄──────────────────┘
//!   │                            │
//!   └────────────────────────────┘
//!      at or below the target (to Safe where a sensor is lost)
//! ```
//!
//! - `Normal`: both loops decide.
//! - `Safe`: the smallest rung of use runs, paced to a part of the power that was allowed last.
//! - `Emergency`: the smallest rung of all runs, with the longest pause. *Near critical* is above the middle between
//!   passive and critical, or above passive and rising fast enough to be critical within two seconds.
//!
//! Time is the caller's monotonic clock; a clock that leaps or runs backwards
//! makes the governor forget a window of measurements and nothing else.

mod choice;
mod clock;
mod decision;
mod demand;
mod error;
mod gains;
mod heat;
mod limits;
mod names;
mod normal_quantile;
mod power_ceiling;
mod power_model;
mod sensor;
mod slowdown;
mod state;
#[cfg(test)]
mod tests;

pub use decision::{Binding, Decision, Mode, Slowdown};
pub use error::{GovernorError, LimitKind};
pub use gains::Gains;
pub use limits::{Deadline, Limits, TemperatureLimits};
pub use state::State;

use choice::{Allowed, Chooser, Chosen, Prospect, RungModel};
use clock::{Clock, Instant};
use headroom_shared::{Energy, List, MAX_RUNGS, Power, TimeSpan};
use heat::{HeatLoop, Usable, degrees};
use power_ceiling::{Alarms, PowerCeiling};
use power_model::PowerModel;
use sensor::{Plausible, Sensor};
use slowdown::SlowdownFilter;

use crate::reading::{InferenceSample, Measurement, Reading, SensorReading};

/// Seconds that the temperature is looked ahead for an emergency: a pass over the sensors and their lag.
const LOOK_AHEAD: f32 = 2.0;
/// Clocks that are cut while the board is cooler than this below its target, in kelvin, are not cut for heat.
const COOL: f32 = 20.0;
/// Without a temperature, the share of the ladder's power range that may be drawn.
const SAFE_SHARE: f32 = 0.25;
/// The least share of a rung's energy that is taken to come from the inference itself, whatever idle power is said.
const LEAST_DYNAMIC_SHARE: f32 = 0.05;
/// Readings of a temperature may differ by so many kelvin at any time.
const TEMPERATURE_NOISE: f32 = 1.5;
/// Seconds without a reading after which no larger rung is chosen.
const STALE: u64 = 2_500_000_000;

/// What one rung costs and is worth, from the ladder or measured on the board.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RungProfile {
    pub latency: TimeSpan,
    /// Of one inference, the board's idle power during it included.
    pub energy: Energy,
    pub fidelity: f32,
}

/// Which sensors a board has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inputs {
    pub temperature: bool,
    pub power: bool,
}

/// Decides; what does not change while it runs.
#[derive(Clone, Debug)]
pub struct Governor {
    profiles: List<RungProfile, MAX_RUNGS>,
    rungs: List<RungModel, MAX_RUNGS>,
    limits: Limits,
    gains: Gains,
    /// Watts that the board draws without inferences.
    idle: f32,
    /// What the hungriest rung draws beyond that at full speed, in watts.
    range: f32,
    /// The normal quantile of the deadline's miss rate.
    deviations: f32,
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
            demand: demand::Demand::default(),
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

    /// What the caller allows.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    #[must_use]
    pub fn gains(&self) -> &Gains {
        &self.gains
    }

    /// Takes in what is new at `now`, the time since any fixed moment on a monotonic clock, and decides.
    pub fn step(&self, state: &mut State, reading: &Reading, now: TimeSpan) -> Decision {
        let now = state.clock.advance(now);
        if let Some(sample) = &reading.inference {
            self.take_inference(state, sample);
        }
        if let Some(sensors) = &reading.sensors {
            self.take_sensors(state, sensors, now);
        }
        self.change_mode(state, now);
        let allowed = self.allowed(state);
        let chosen = self.choose(state, &allowed, now);
        let pace = self.pace(state, &chosen, allowed.watts());
        state.pace = pace;
        Decision {
            rung: chosen.rung,
            pace,
            binding: chosen.binding,
            mode: state.mode,
            slowdown: state.slowdown.estimate(),
            power_budget: power(allowed.watts()),
        }
    }

    /// A sample of a rung that does not exist, or of no time, says nothing.
    fn take_inference(&self, state: &mut State, sample: &InferenceSample) {
        let Some(rung) = self.rungs.get(usize::from(sample.rung)) else { return };
        let latency = seconds(sample.latency);
        if latency <= 0.0 {
            return;
        }
        let tolerated = self.limits.deadline.map_or(0.0, |deadline| deadline.miss_rate);
        // Beyond these it is no measurement of a rung, and squares would overflow.
        let ratio = (latency / rung.latency).clamp(1e-3, 1e4);
        state.slowdown.update(ratio, self.gains.odd_deviations, tolerated);
        state.demand.finished(latency, rung.dynamic_energy);
    }

    fn take_sensors(&self, state: &mut State, sensors: &SensorReading, now: Instant) {
        let paced = state.pace.as_nanoseconds() > 0;
        let window = state.demand.close_window(now, state.clock.jumps(), paced);
        let dynamic = window.unwrap_or(0.0);
        let share = |watts: f32| watts / self.range.max(f32::MIN_POSITIVE);
        let plausible = Plausible { least: 0.0, most: 1e5, fastest: 0.0, noise: f32::MAX };
        let measured = state.power.take(mapped(sensors.power, watts), &plausible, share(dynamic), now);
        if let (Some(measured), Some(dynamic)) = (measured, window) {
            state.power_model.update(measured, dynamic);
        }
        let drawn = state.power_model.predict(dynamic);
        let load = share(measured.unwrap_or(drawn));
        let plausible =
            Plausible { least: -60.0, most: 200.0, fastest: self.gains.fastest_heating, noise: TEMPERATURE_NOISE };
        let reading = mapped(sensors.temperature, |temperature| degrees(temperature.as_millidegrees()));
        let believed = state.temperature.take(reading, &plausible, load, now);
        let usable = self.usable(state);
        if let (Some(temperature), Some(limits)) = (believed, &self.limits.temperature) {
            state.heat.update(temperature, limits, &self.gains, usable, now);
        }
        let over_current = sensors.over_current.value().unwrap_or_default();
        let alarms = Alarms {
            sustained: over_current.sustained,
            instantaneous: over_current.instantaneous,
            throttled: sensors.throttled.value().unwrap_or(false) && self.may_be_hot(state, now),
        };
        state.ceiling.update(alarms, drawn, usable.most, usable.range, now);
    }

    /// Whether clocks that are cut may be cut for heat. Without a temperature limit the caller does not mind heat.
    fn may_be_hot(&self, state: &State, now: Instant) -> bool {
        let Some(limits) = &self.limits.temperature else { return false };
        let warm = degrees(limits.target.as_millidegrees()) - COOL;
        state.temperature.is_lost(self.gains.sensor_patience, now)
            || state.temperature.value().is_none_or(|value| value > warm)
    }

    fn change_mode(&self, state: &mut State, now: Instant) {
        let lost = self.lost(state, now);
        let next = match state.mode {
            Mode::Emergency if !self.is_back_at_target(state, now) => Mode::Emergency,
            Mode::Emergency if lost => Mode::Safe,
            Mode::Emergency => Mode::Normal,
            Mode::Normal | Mode::Safe if self.is_near_critical(state, now) => Mode::Emergency,
            Mode::Normal if lost => Mode::Safe,
            Mode::Normal => Mode::Normal,
            Mode::Safe if lost => {
                state.good_since = None;
                Mode::Safe
            }
            Mode::Safe => {
                let since = *state.good_since.get_or_insert(now);
                let good = now.saturating_sub(since) >= self.gains.sensor_patience.as_nanoseconds();
                if good { Mode::Normal } else { Mode::Safe }
            }
        };
        if next != state.mode {
            state.good_since = None;
            if next == Mode::Emergency {
                let usable = self.usable(state);
                state.heat.cool_down(usable);
            }
            state.mode = next;
        }
    }

    /// Whether a sensor that a limit needs is lost.
    fn lost(&self, state: &State, now: Instant) -> bool {
        let patience = self.gains.sensor_patience;
        (self.limits.temperature.is_some() && state.temperature.is_lost(patience, now))
            || (self.limits.power.is_some() && state.power.is_lost(patience, now))
    }

    fn is_near_critical(&self, state: &State, now: Instant) -> bool {
        let Some(limits) = &self.limits.temperature else { return false };
        let (Some(value), Some(ahead)) = (state.temperature.value(), state.temperature.projected(LOOK_AHEAD, now))
        else {
            return false;
        };
        let (passive, critical) =
            (degrees(limits.passive.as_millidegrees()), degrees(limits.critical.as_millidegrees()));
        value >= 0.5 * (passive + critical) || (value >= passive && ahead >= critical)
    }

    fn is_back_at_target(&self, state: &State, now: Instant) -> bool {
        let Some(limits) = &self.limits.temperature else { return true };
        let target = degrees(limits.target.as_millidegrees());
        !state.temperature.is_lost(self.gains.sensor_patience, now)
            && state.temperature.value().is_some_and(|value| value <= target)
    }

    fn usable(&self, state: &State) -> Usable {
        let drawn = |rung: &RungModel| self.expected_power(state, rung);
        let most = self.rungs.iter().filter(|rung| rung.useful).map(drawn).fold(0.0, f32::max);
        Usable { least: state.power_model.bias(), most, range: self.range }
    }

    fn expected_power(&self, state: &State, rung: &RungModel) -> f32 {
        state.power_model.predict(rung.dynamic_energy * state.demand.rate(rung.latency * state.slowdown.mean()))
    }

    fn allowed(&self, state: &State) -> Allowed {
        let unlimited = f32::INFINITY;
        let cap = self.limits.power.map_or(unlimited, watts);
        let mut heat = match self.limits.temperature {
            Some(_) => state.heat.budget().unwrap_or(unlimited),
            None => unlimited,
        };
        if state.mode == Mode::Safe && self.limits.temperature.is_some() {
            heat = heat.min(state.power_model.bias() + SAFE_SHARE * self.range);
        }
        Allowed {
            latency: self.limits.deadline.map_or(unlimited, |deadline| seconds(deadline.latency)),
            power: cap.min(state.ceiling.watts().unwrap_or(unlimited)),
            heat,
            energy: self.limits.energy.map_or(unlimited, |energy| energy.as_microjoules() as f32 * 1e-6),
        }
    }

    fn choose(&self, state: &mut State, allowed: &Allowed, now: Instant) -> Chosen {
        let forced = |rung: usize, binding| Chosen { rung: rung as u8, binding, too_hungry: true };
        let waiting = (self.limits.temperature.is_some() && !state.temperature.was_ever_read())
            || (self.limits.power.is_some() && !state.power.was_ever_read());
        let chosen = match state.mode {
            Mode::Emergency => forced(choice::thriftiest(&self.rungs, false), Binding::Emergency),
            Mode::Safe => forced(choice::thriftiest(&self.rungs, true), Binding::LostSensor),
            // The first reading chooses without a dwell.
            Mode::Normal if waiting => return forced(choice::thriftiest(&self.rungs, true), Binding::LostSensor),
            Mode::Normal => {
                let mut prospects = [Prospect::default(); MAX_RUNGS];
                let quantile = state.slowdown.quantile(self.deviations);
                for (prospect, rung) in prospects.iter_mut().zip(&self.rungs) {
                    *prospect = Prospect {
                        latency: rung.latency * quantile,
                        power: self.expected_power(state, rung),
                        energy: self.idle * rung.latency * state.slowdown.mean()
                            + state.power_model.scale() * rung.dynamic_energy,
                    };
                }
                let stale = TimeSpan::from_nanoseconds(STALE);
                let may_rise = (self.limits.temperature.is_none() || !state.temperature.is_lost(stale, now))
                    && (self.limits.power.is_none() || !state.power.is_lost(stale, now));
                return state.chooser.choose(&self.rungs, &prospects, allowed, &self.gains, may_rise, now);
            }
        };
        state.chooser.force(chosen.rung);
        chosen
    }

    /// The pause that keeps a rung within `allowed` watts.
    fn pace(&self, state: &State, chosen: &Chosen, allowed: f32) -> TimeSpan {
        let none = TimeSpan::from_nanoseconds(0);
        if state.mode == Mode::Emergency {
            return self.gains.longest_pace;
        }
        let Some(rung) = self.rungs.get(usize::from(chosen.rung)).filter(|_| chosen.too_hungry) else { return none };
        let rate = state.demand.rate(rung.latency * state.slowdown.mean());
        let affordable = (allowed - state.power_model.bias())
            / (state.power_model.scale() * rung.dynamic_energy).max(f32::MIN_POSITIVE);
        if affordable >= rate {
            return none;
        }
        // Negative where the board alone draws too much, and then no pause is long enough.
        let pause = if affordable > 0.0 { 1.0 / affordable } else { f32::INFINITY };
        let pause = TimeSpan::from_nanoseconds((pause * 1e9) as u64);
        pause.min(self.gains.longest_pace)
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

fn mapped<T, U>(measurement: Measurement<T>, map: impl FnOnce(T) -> U) -> Measurement<U> {
    match measurement {
        Measurement::Measured(value) => Measurement::Measured(map(value)),
        Measurement::Projected { value, age } => Measurement::Projected { value: map(value), age },
        Measurement::Missing(reason) => Measurement::Missing(reason),
    }
}

fn seconds(span: TimeSpan) -> f32 {
    clock::seconds(span.as_nanoseconds(), 0)
}

fn watts(power: Power) -> f32 {
    power.as_milliwatts() as f32 * 1e-3
}

/// `None` where there is no limit.
fn power(watts: f32) -> Option<Power> {
    watts.is_finite().then(|| Power::from_milliwatts((watts * 1e3) as u32))
}
