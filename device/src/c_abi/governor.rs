//! The governor by itself, for callers that read sensors and run inferences on their own.

use std::sync::Mutex;

use headroom_shared::{Power, Temperature, TimeSpan};

use super::limits::HeadroomLimits;
use super::model::{HeadroomModel, known_bits};
use super::pointer::{self, Output};
use super::status::{Failure, HeadroomStatus, guarded};
use crate::governor::{Binding, Decision, Governor, Mode, State};
use crate::lock::lock;
use crate::measured_profile::rung_profiles;
use crate::reading::{Charge, InferenceSample, Measurement, Missing, OverCurrentRates, Reading, SensorReading};

/// A governor with what it remembers.
pub struct HeadroomGovernor(Mutex<(Governor, State)>);

/// `HeadroomReading::known`: an inference has ended.
pub const HEADROOM_READING_INFERENCE: u32 = 1;
/// `HeadroomReading::known`: this is a pass over the sensors; those that are not known are missing.
pub const HEADROOM_READING_SENSORS: u32 = 2;
/// `HeadroomReading::known`: `temperature_millidegrees` was read.
pub const HEADROOM_READING_TEMPERATURE: u32 = 4;
/// `HeadroomReading::known`: `power_milliwatts` was read.
pub const HEADROOM_READING_POWER: u32 = 8;
/// `HeadroomReading::known`: `throttled` was read.
pub const HEADROOM_READING_THROTTLED: u32 = 16;
/// `HeadroomReading::known`: the over-current rates were read.
pub const HEADROOM_READING_OVER_CURRENT: u32 = 32;
/// `HeadroomReading::known`: `charge_percent` was read.
pub const HEADROOM_READING_CHARGE: u32 = 64;

/// What is new since the last step.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HeadroomReading {
    /// Which of the other fields are known: a sum of `HEADROOM_READING_*`.
    pub known: u32,
    /// The rung of the inference that has ended.
    pub inference_rung: u32,
    /// From the start of its computation to its end.
    pub inference_nanoseconds: u64,
    /// Of the hottest zone that clocks depend on.
    pub temperature_millidegrees: i32,
    /// Of the whole board.
    pub power_milliwatts: u32,
    /// Under-voltage or average-power events a second.
    pub sustained_over_current: f32,
    /// Instantaneous-power events a second.
    pub instantaneous_over_current: f32,
    /// Not 0 while the kernel cuts clocks.
    pub throttled: u8,
    /// What is left in the battery, 0 to 100.
    pub charge_percent: u8,
}

/// Which limit bound.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadroomBinding {
    /// None: the rung of the highest fidelity runs.
    Nothing = 0,
    Deadline = 1,
    Power = 2,
    Temperature = 3,
    Energy = 4,
    /// A smaller rung would fit better, but is of no use to the caller.
    MinimumFidelity = 5,
    /// A larger rung fits, but has not for long enough.
    Hysteresis = 6,
    /// A sensor that a limit needs is lost.
    LostSensor = 7,
    /// A part is too hot to wait for anything.
    Emergency = 8,
}

/// The state of the governor.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadroomMode {
    Normal = 0,
    /// A sensor is lost: the safe rung runs.
    Safe = 1,
    /// Too hot: the smallest rung runs, paced, until every part is back at its target.
    Emergency = 2,
}

/// The outcome of one step.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadroomDecision {
    /// The rung for the inferences that start from now on.
    pub rung: u32,
    pub binding: HeadroomBinding,
    pub mode: HeadroomMode,
    /// How much slower than its profile the board is: mean and standard deviation.
    pub slowdown: f32,
    pub slowdown_standard_deviation: f32,
    /// What the board may draw; only where `has_power_budget` is 1.
    pub power_budget_milliwatts: u32,
    /// The least time between the starts of two inferences.
    pub pace_nanoseconds: u64,
    /// 1 where heat or a cap limits the power.
    pub has_power_budget: u8,
}

/// Makes a governor of a model's rungs.
///
/// # Safety
/// `model` is null or open; `limits` is null or some; `governor` is null or room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_governor_new(
    model: *const HeadroomModel,
    limits: *const HeadroomLimits,
    governor: *mut *mut HeadroomGovernor,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (output, model, limits) = unsafe {
            let limits = pointer::reference(limits, "limits")?;
            (Output::new(governor, "governor")?, pointer::reference(model, "model")?, *limits)
        };
        let new = Governor::new(&rung_profiles(&model.0.ladder()), limits.checked()?)
            .map_err(|error| Failure::of(HeadroomStatus::Limits, &error))?;
        let state = new.start();
        output.write(Box::into_raw(Box::new(HeadroomGovernor(Mutex::new((new, state))))));
        Ok(())
    })
}

/// Closes a governor; null is none.
///
/// # Safety
/// `governor` is null, or a governor that was not closed and that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_governor_close(governor: *mut HeadroomGovernor) {
    guarded(|| {
        // SAFETY: the promise of this function's own caller.
        unsafe { pointer::close(governor) };
        Ok(())
    });
}

/// Takes in what is new and decides. `now_nanoseconds` is the time since any fixed moment on a monotonic clock.
///
/// # Safety
/// `governor` is null or open; `reading` is null or one; `decision` is null or room for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_governor_step(
    governor: *const HeadroomGovernor,
    reading: *const HeadroomReading,
    now_nanoseconds: u64,
    decision: *mut HeadroomDecision,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (output, governor, reading) = unsafe {
            let reading = pointer::reference(reading, "reading")?;
            (Output::new(decision, "decision")?, pointer::reference(governor, "governor")?, *reading)
        };
        let reading = reading.checked()?;
        // A step is a pure function: what a panic left is the state before or after it.
        let mut governing = lock(&governor.0);
        let (governor, state) = &mut *governing;
        let decided = governor.step(state, &reading, TimeSpan::from_nanoseconds(now_nanoseconds));
        output.write(HeadroomDecision::new(&decided));
        Ok(())
    })
}

impl HeadroomReading {
    fn checked(&self) -> Result<Reading, Failure> {
        known_bits(self.known, 2 * HEADROOM_READING_CHARGE - 1, "reading.known")?;
        let out_of_range = |name: &str, value: &dyn std::fmt::Display, expected: &str| {
            let message = format!("`{name}` is {value}, expected {expected}");
            Failure::new(HeadroomStatus::InvalidArgument, message)
        };
        let is_known = |value: u32| self.known & value != 0;
        let inference = if is_known(HEADROOM_READING_INFERENCE) {
            let rung = u8::try_from(self.inference_rung)
                .map_err(|_| out_of_range("inference_rung", &self.inference_rung, "a rung of the ladder"))?;
            Some(InferenceSample { rung, latency: TimeSpan::from_nanoseconds(self.inference_nanoseconds) })
        } else {
            None
        };
        let charge = Charge::from_percent(self.charge_percent)
            .ok_or_else(|| out_of_range("charge_percent", &self.charge_percent, "0 to 100"));
        let rates =
            OverCurrentRates { sustained: self.sustained_over_current, instantaneous: self.instantaneous_over_current };
        let sensors = if is_known(HEADROOM_READING_SENSORS) {
            fn measured<T>(is_known: bool, value: T) -> Measurement<T> {
                if is_known { Measurement::Measured(value) } else { Measurement::Missing(Missing::Absent) }
            }
            let temperature = Temperature::from_millidegrees(self.temperature_millidegrees);
            let power = Power::from_milliwatts(self.power_milliwatts);
            Some(SensorReading {
                temperature: measured(is_known(HEADROOM_READING_TEMPERATURE), temperature),
                power: measured(is_known(HEADROOM_READING_POWER), power),
                throttled: measured(is_known(HEADROOM_READING_THROTTLED), self.throttled != 0),
                over_current: measured(is_known(HEADROOM_READING_OVER_CURRENT), rates),
                charge: if is_known(HEADROOM_READING_CHARGE) {
                    Measurement::Measured(charge?)
                } else {
                    Measurement::Missing(Missing::Absent)
                },
            })
        } else {
            None
        };
        Ok(Reading { inference, sensors })
    }
}

impl HeadroomDecision {
    pub(super) fn new(decision: &Decision) -> Self {
        Self {
            rung: u32::from(decision.rung),
            binding: match decision.binding {
                Binding::Nothing => HeadroomBinding::Nothing,
                Binding::Deadline => HeadroomBinding::Deadline,
                Binding::Power => HeadroomBinding::Power,
                Binding::Temperature => HeadroomBinding::Temperature,
                Binding::Energy => HeadroomBinding::Energy,
                Binding::MinimumFidelity => HeadroomBinding::MinimumFidelity,
                Binding::Hysteresis => HeadroomBinding::Hysteresis,
                Binding::LostSensor => HeadroomBinding::LostSensor,
                Binding::Emergency => HeadroomBinding::Emergency,
            },
            mode: match decision.mode {
                Mode::Normal => HeadroomMode::Normal,
                Mode::Safe => HeadroomMode::Safe,
                Mode::Emergency => HeadroomMode::Emergency,
            },
            slowdown: decision.slowdown.mean,
            slowdown_standard_deviation: decision.slowdown.standard_deviation,
            power_budget_milliwatts: decision.power_budget.map_or(0, Power::as_milliwatts),
            pace_nanoseconds: decision.pace.as_nanoseconds(),
            has_power_budget: u8::from(decision.power_budget.is_some()),
        }
    }
}
