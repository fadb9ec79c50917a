//! How strongly the governor reacts.

use headroom_shared::TimeSpan;

use super::GovernorError;

/// What the loops multiply by and wait for. The defaults hold the scenarios of
/// `tests/scenarios` and the random plants of `device/tests/random_plants.rs`;
/// few boards need others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gains {
    /// Of the heat loop: the share of the ladder's power range that a degree below the target is worth, 1/K. As a
    /// share it suits a board of 5 W and one of 60 W.
    pub proportional: f32,
    /// Of the heat loop: the share of the ladder's power range that a degree below the target adds every second,
    /// 1/(K s).
    pub integral: f32,
    /// How many times faster the integral falls above the target than it rises below; at least 1.
    pub cooling_bias: f32,
    /// What a larger rung must leave of each limit to be chosen, 0 to 1. A rung that runs already may use all of it.
    pub margin: f32,
    /// How long a larger rung must have fitted to be chosen.
    pub dwell: TimeSpan,
    /// The dwell doubles whenever a larger rung had to be left soon after it was chosen, up to this.
    pub longest_dwell: TimeSpan,
    /// How long a sensor may be lost before the safe rung runs.
    pub sensor_patience: TimeSpan,
    /// Faster changes of a temperature, in kelvin a second, are a fault of the sensor unless the next reading
    /// confirms them.
    pub fastest_heating: f32,
    /// A latency this many standard deviations from what was expected is odd: it changes nothing unless the next
    /// one confirms it.
    pub odd_deviations: f32,
    /// The longest time between the starts of two inferences, or ten times the latency where that is longer.
    pub longest_pace: TimeSpan,
}

const fn milliseconds(milliseconds: u64) -> TimeSpan {
    TimeSpan::from_nanoseconds(milliseconds * 1_000_000)
}

impl Default for Gains {
    fn default() -> Self {
        Self {
            proportional: 0.1,
            integral: 0.001,
            cooling_bias: 4.0,
            margin: 0.03,
            dwell: milliseconds(2_000),
            longest_dwell: milliseconds(60_000),
            sensor_patience: milliseconds(5_000),
            fastest_heating: 5.0,
            odd_deviations: 4.0,
            longest_pace: milliseconds(2_000),
        }
    }
}

impl Gains {
    /// # Errors
    /// The first gain that is no number or outside its range.
    pub(super) fn validate(&self) -> Result<(), GovernorError> {
        let ranges = [
            ("proportional", self.proportional, 0.0, f32::MAX),
            ("integral", self.integral, 0.0, f32::MAX),
            ("cooling_bias", self.cooling_bias, 1.0, f32::MAX),
            ("margin", self.margin, 0.0, 0.9),
            ("fastest_heating", self.fastest_heating, f32::MIN_POSITIVE, f32::MAX),
            ("odd_deviations", self.odd_deviations, f32::MIN_POSITIVE, f32::MAX),
        ];
        for (name, found, least, most) in ranges {
            // False for NaN.
            if !(least..=most).contains(&found) {
                return Err(GovernorError::Gain { name, found });
            }
        }
        if self.dwell > self.longest_dwell {
            return Err(GovernorError::DwellOrder { dwell: self.dwell, longest: self.longest_dwell });
        }
        if self.longest_pace.as_nanoseconds() == 0 {
            return Err(GovernorError::Gain { name: "longest_pace", found: 0.0 });
        }
        Ok(())
    }
}
