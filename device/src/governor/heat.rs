//! The heat loop: how many watts keep the board at its target temperature.
//!
//! The idea of Linux' power allocator (`Documentation/driver-api/thermal/power_allocator.rst`):
//! a PI controller on the degrees below the target whose output is a power
//! budget. The integral is what the board can give off for good and stays
//! within what the rungs can use, so that it does not wind up.

use super::clock::{Instant, seconds};
use super::{Gains, TemperatureLimits};

/// The reading is smoothed over about so many seconds before it is multiplied.
const SMOOTHING: f32 = 2.0;
/// The share of the power range that the integral begins with, and begins with again after an emergency.
const FIRST_SHARE: f32 = 0.5;
const SHARE_AFTER_EMERGENCY: f32 = 0.2;

/// What rungs can draw on this board now, in watts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usable {
    /// Without any inference.
    pub least: f32,
    /// With the hungriest rung at the rate that is asked for.
    pub most: f32,
    /// Between the two at full speed and by the profile, whatever is asked for.
    pub range: f32,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeatLoop {
    smoothed: f32,
    integral: f32,
    budget: Option<f32>,
    updated: Instant,
}

impl HeatLoop {
    /// Takes in a believed temperature.
    pub fn update(
        &mut self,
        temperature: f32,
        limits: &TemperatureLimits,
        gains: &Gains,
        usable: Usable,
        now: Instant,
    ) {
        let passed = seconds(now, self.updated);
        self.updated = now;
        let target = degrees(limits.target.as_millidegrees());
        if self.budget.is_none() {
            self.smoothed = temperature;
            self.integral = usable.least + FIRST_SHARE * (usable.most - usable.least);
        } else {
            self.smoothed += (temperature - self.smoothed) * passed / (passed + SMOOTHING);
        }
        let below = target - self.smoothed;
        let proportional = gains.proportional * usable.range * below;
        let wanted = self.integral + proportional;
        let saturated = (wanted > usable.most && below > 0.0) || (wanted < usable.least && below < 0.0);
        if !saturated && self.budget.is_some() {
            let speed = if below < 0.0 { gains.cooling_bias } else { 1.0 };
            self.integral += speed * gains.integral * usable.range * below * passed;
        }
        self.integral = self.integral.clamp(usable.least, usable.most.max(usable.least));
        self.budget = Some((self.integral + proportional).max(0.0));
    }

    /// What the loop begins with after an emergency: little.
    pub fn cool_down(&mut self, usable: Usable) {
        self.integral = self.integral.min(usable.least + SHARE_AFTER_EMERGENCY * (usable.most - usable.least));
    }

    /// In watts; `None` before the first temperature.
    pub fn budget(&self) -> Option<f32> {
        self.budget
    }
}

pub(super) fn degrees(millidegrees: i32) -> f32 {
    millidegrees as f32 * 1e-3
}

#[cfg(test)]
mod tests {
    use super::*;
    use headroom_shared::Temperature;

    const LIMITS: TemperatureLimits = TemperatureLimits {
        target: Temperature::from_millidegrees(85_000),
        passive: Temperature::from_millidegrees(99_000),
        critical: Temperature::from_millidegrees(104_500),
    };
    const USABLE: Usable = Usable { least: 5.0, most: 25.0, range: 20.0 };

    /// A board of one thermal node that draws all of its budget; returns its highest and its last temperature.
    fn run(heat: &mut HeatLoop, ambient: f32, from: f32, seconds: u64) -> (f32, f32) {
        let (mut temperature, mut highest) = (from, from);
        for second in 1..=seconds {
            heat.update(temperature, &LIMITS, &Gains::default(), USABLE, second * 1_000_000_000);
            let power = heat.budget().expect("a temperature was read").clamp(USABLE.least, USABLE.most);
            temperature += (ambient + 6.2 * power - temperature) / 396.0;
            highest = highest.max(temperature);
        }
        (highest, temperature)
    }

    #[test]
    fn the_board_settles_at_its_target() {
        let (highest, last) = run(&mut HeatLoop::default(), 25.0, 25.0, 3600);
        assert!((last - 85.0).abs() < 0.3, "{last}");
        assert!(highest < 88.0, "{highest}");
    }

    #[test]
    fn the_integral_does_not_wind_up_while_the_board_is_cool() {
        let mut heat = HeatLoop::default();
        for second in 1..=36_000 {
            heat.update(30.0, &LIMITS, &Gains::default(), USABLE, second * 1_000_000_000);
        }
        assert!(heat.integral <= USABLE.most);
        let (highest, _) = run(&mut heat, 50.0, 84.0, 3600);
        assert!(highest < 90.0, "{highest}");
    }
}
