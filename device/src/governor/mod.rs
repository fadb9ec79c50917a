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
mod construction;
mod decision;
mod demand;
mod error;
mod gains;
mod heat;
mod limits;
mod modes;
mod names;
mod normal_quantile;
mod power_ceiling;
mod power_model;
mod sensor;
mod slowdown;
mod state;
#[cfg(test)]
mod tests;

pub use construction::Inputs;
pub use decision::{Binding, Decider, Decision, Mode, Slowdown};
pub use error::{GovernorError, LimitKind};
pub use gains::Gains;
pub use limits::{Deadline, Limits, TemperatureLimits};
pub use state::State;

use choice::{Allowed, Chosen, Prospect, RungModel};
use clock::Instant;
use headroom_shared::{Energy, List, MAX_RUNGS, Power, TimeSpan};
use heat::{Usable, degrees};
use power_ceiling::Alarms;
use sensor::Plausible;

use crate::reading::{InferenceSample, Measurement, Reading, SensorReading};

/// Clocks that are cut while the board is cooler than this below its target, in kelvin, are not cut for heat.
const COOL: f32 = 20.0;
/// Without a temperature, the share of the ladder's power range that may be drawn.
const SAFE_SHARE: f32 = 0.25;
/// Readings of a temperature may differ by so many kelvin at any time.
const TEMPERATURE_NOISE: f32 = 1.5;
/// However slow a rung is, the longest pause leaves it a tenth of the time.
const LONGEST_PAUSE_IN_LATENCIES: f32 = 10.0;
/// A mean latency says as much of the slowdown as so many single ones.
const SEVERAL: u32 = 8;
/// Nanoseconds without a reading after which no larger rung is chosen.
const STALE: u64 = 2_500_000_000;

/// What one rung costs and is worth, from the ladder or measured on the board.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RungProfile {
    pub latency: TimeSpan,
    /// Of one inference, the board's idle power during it included.
    pub energy: Energy,
    pub fidelity: f32,
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
            decider: Decider::Own,
        }
    }

    /// Takes in `count` inferences of which only the rung and the mean latency are known; the next
    /// [step](Self::step) decides with them. What single inferences scatter is not learnt, so that a deadline needs
    /// them one by one.
    pub fn take_several(&self, state: &mut State, mean: &InferenceSample, count: u32) {
        for _ in 0..count.min(SEVERAL) {
            self.take_inference(state, mean);
        }
        if let Some(rung) = self.rungs.get(usize::from(mean.rung)) {
            state.demand.finished_several(seconds(mean.latency), rung.dynamic_energy, count.saturating_sub(SEVERAL));
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
        let is_new = state.temperature.take(reading, &plausible, load, now).is_some();
        let usable = self.usable(state);
        if let (true, Some(temperature), Some(limits)) = (is_new, state.temperature.value(), &self.limits.temperature) {
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
        let Some(rung) = self.rungs.get(usize::from(chosen.rung)).filter(|_| chosen.too_hungry) else { return none };
        let latency = rung.latency * state.slowdown.mean();
        let longest = seconds(self.gains.longest_pace).max(latency * LONGEST_PAUSE_IN_LATENCIES);
        let dynamic_energy = (state.power_model.scale() * rung.dynamic_energy).max(f32::MIN_POSITIVE);
        let affordable = (allowed - state.power_model.bias()) / dynamic_energy;
        let pause = match state.mode {
            Mode::Emergency => longest,
            _ if affordable >= state.demand.rate(latency) => return none,
            // Where the board alone draws too much no pause is long enough.
            _ if affordable <= 0.0 => longest,
            _ => (1.0 / affordable).min(longest),
        };
        TimeSpan::from_nanoseconds((pause * 1e9) as u64)
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
