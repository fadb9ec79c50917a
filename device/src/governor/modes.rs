//! When the governor changes its [`Mode`].

use super::clock::Instant;
use super::heat::degrees;
use super::{Governor, Mode, State};

/// Seconds that the temperature is looked ahead for an emergency: a pass over the sensors and their lag.
const LOOK_AHEAD: f32 = 2.0;

impl Governor {
    pub(super) fn change_mode(&self, state: &mut State, now: Instant) {
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
}
