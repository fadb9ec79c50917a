//! What the governor is told: the latency of inferences and what the sensors say.
//!
//! A value is measured, projected from an earlier measurement or missing, and
//! says which. No number ever stands for "unknown".

use headroom_shared::{Power, Temperature, TimeSpan};

/// A value, and how it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measurement<T> {
    /// Read in this pass.
    Measured(T),
    /// Not read in this pass: the last one that was, and how long ago.
    Projected { value: T, age: TimeSpan },
    /// Not known.
    Missing(Missing),
}

/// Why a value is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Missing {
    /// The board, or its kernel, has no such sensor.
    #[error("no such sensor")]
    Absent,
    /// The sensor was there and has gone.
    #[error("the sensor has vanished")]
    Vanished,
    /// The kernel says that the sensor cannot answer, as it does while what it measures is switched off.
    #[error("the sensor does not answer")]
    Unavailable,
    /// This process may not read it.
    #[error("no permission")]
    Denied,
    /// What it says is no number, or one that its quantity cannot have.
    #[error("the sensor says nothing sensible")]
    Malformed,
}

impl<T: Copy> Measurement<T> {
    /// The value, measured or projected.
    #[must_use]
    pub fn value(self) -> Option<T> {
        match self {
            Self::Measured(value) | Self::Projected { value, .. } => Some(value),
            Self::Missing(_) => None,
        }
    }
}

/// What is new since the last step of the governor. Either part may be absent:
/// inferences end many times a second, sensors are read about once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// The inference that has just ended.
    pub inference: Option<InferenceSample>,
    /// A pass over the sensors.
    pub sensors: Option<SensorReading>,
}

/// How long an inference took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InferenceSample {
    /// The rung that ran.
    pub rung: u8,
    /// From the start of the computation to its end, on a monotonic clock.
    pub latency: TimeSpan,
}

/// One pass over the sensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SensorReading {
    /// Of the hottest zone that clocks depend on.
    pub temperature: Measurement<Temperature>,
    /// Of the whole board, as its profile defines the total.
    pub power: Measurement<Power>,
    /// Whether the kernel cuts clocks at this moment.
    pub throttled: Measurement<bool>,
    /// Over-current throttling.
    pub over_current: Measurement<OverCurrentRates>,
    /// What is left in the battery, where there is one.
    pub charge: Measurement<Charge>,
}

/// Over-current throttling, in events a second since the last pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OverCurrentRates {
    /// Of under-voltage or average power: serious at any rate.
    pub sustained: f32,
    /// Of instantaneous power: one costs about a millisecond at half clock, and
    /// up to 30 a second are usual on boards near their limit.
    pub instantaneous: f32,
}

/// What is left in a battery: 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Charge(f32);

impl Charge {
    /// Of a percentage; `None` above 100.
    #[must_use]
    pub fn from_percent(percent: u8) -> Option<Self> {
        (percent <= 100).then(|| Self(f32::from(percent) / 100.0))
    }

    /// 0 (empty) to 1 (full).
    #[must_use]
    pub fn fraction(self) -> f32 {
        self.0
    }
}

impl SensorReading {
    /// Of a board without any sensor.
    pub const ABSENT: Self = Self {
        temperature: Measurement::Missing(Missing::Absent),
        power: Measurement::Missing(Missing::Absent),
        throttled: Measurement::Missing(Missing::Absent),
        over_current: Measurement::Missing(Missing::Absent),
        charge: Measurement::Missing(Missing::Absent),
    };
}
