//! What the caller allows.

use headroom_shared::{Energy, Power, Temperature, TimeSpan};

use super::{GovernorError, LimitKind};

/// What inference may cost. `None` is no limit; any subset may be set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// How long an inference may take.
    pub deadline: Option<Deadline>,
    /// The most that the whole board may draw on average.
    pub power: Option<Power>,
    /// Temperatures to stay below.
    pub temperature: Option<TemperatureLimits>,
    /// The most that one inference may take.
    pub energy: Option<Energy>,
    /// The least fidelity that is of use, -1 to 1. Heat and power go before it: where they are short, the smallest
    /// useful rung runs with a pause, and in an emergency the smallest of all. It goes before deadline and energy,
    /// which are missed where no useful rung meets them.
    pub minimum_fidelity: Option<f32>,
}

/// A latency that few inferences may exceed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deadline {
    pub latency: TimeSpan,
    /// The share of inferences that may take longer: above 0, below 1.
    pub miss_rate: f32,
}

/// Temperatures in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemperatureLimits {
    /// Where the governor holds the board.
    pub target: Temperature,
    /// Where the kernel starts to cut clocks.
    pub passive: Temperature,
    /// Where the kernel, or the hardware, shuts down.
    pub critical: Temperature,
}

impl Limits {
    /// # Errors
    /// The first limit that makes no sense.
    pub(super) fn validate(&self) -> Result<(), GovernorError> {
        if let Some(deadline) = self.deadline {
            if deadline.latency.as_nanoseconds() == 0 {
                return Err(GovernorError::ZeroLimit(LimitKind::Deadline));
            }
            let found = deadline.miss_rate;
            // False for NaN; below the least positive normal number the quantile is no longer a number.
            if !(f32::MIN_POSITIVE..1.0).contains(&found) {
                return Err(GovernorError::MissRate { found });
            }
        }
        if self.power.is_some_and(|power| power.as_milliwatts() == 0) {
            return Err(GovernorError::ZeroLimit(LimitKind::Power));
        }
        if self.energy.is_some_and(|energy| energy.as_microjoules() == 0) {
            return Err(GovernorError::ZeroLimit(LimitKind::Energy));
        }
        if let Some(TemperatureLimits { target, passive, critical }) = self.temperature
            && !(target < passive && passive < critical)
        {
            return Err(GovernorError::TemperatureOrder { target, passive, critical });
        }
        match self.minimum_fidelity {
            Some(found) if !(-1.0..=1.0).contains(&found) => Err(GovernorError::MinimumFidelity { found }),
            _ => Ok(()),
        }
    }

    /// The limits that need to know the energy of an inference.
    pub(super) fn needing_energy(&self) -> Option<LimitKind> {
        let power = self.power.map(|_| LimitKind::Power);
        let temperature = self.temperature.map(|_| LimitKind::Temperature);
        power.or(temperature).or(self.energy.map(|_| LimitKind::Energy))
    }
}
