//! What over-current events and cut clocks say about power: less, at once, and then slowly more.
//!
//! Neither tells how many watts are too many, so the ceiling falls by a tenth
//! of what is drawn and rises linearly, as senders find the capacity of a
//! network (additive increase, multiplicative decrease).

use super::clock::{Instant, seconds};

/// Instantaneous over-current events a second that are usual near a board's limit and cost about a percent.
const USUAL_EVENTS: f32 = 60.0;
const CUT: f32 = 0.9;
/// Seconds between two cuts: what a cut does is seen only in the next readings.
const BETWEEN_CUTS: f32 = 4.0;
/// The share of the ladder's power range that comes back in a second.
const RISE: f32 = 0.004;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PowerCeiling {
    watts: Option<f32>,
    last_cut: Option<Instant>,
    updated: Instant,
}

/// What a pass over the sensors said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Alarms {
    pub sustained: f32,
    pub instantaneous: f32,
    /// The kernel cuts clocks because of heat.
    pub throttled: bool,
}

impl PowerCeiling {
    /// `drawn` is what the board draws, `most` what the rungs can draw and `range` the ladder's power range, in watts.
    pub fn update(&mut self, alarms: Alarms, drawn: f32, most: f32, range: f32, now: Instant) {
        let passed = seconds(now, self.updated);
        self.updated = now;
        let alarm = alarms.sustained > 0.0 || alarms.instantaneous > USUAL_EVENTS || alarms.throttled;
        if alarm {
            if self.last_cut.is_none_or(|last| seconds(now, last) >= BETWEEN_CUTS) {
                self.watts = Some(CUT * self.watts.map_or(drawn, |watts| watts.min(drawn)));
                self.last_cut = Some(now);
            }
            return;
        }
        self.watts = self.watts.map(|watts| watts + RISE * range * passed).filter(|watts| *watts < most);
    }

    /// In watts; `None` where nothing was heard for long.
    pub fn watts(&self) -> Option<f32> {
        self.watts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falls_at_once_and_rises_slowly() {
        let mut ceiling = PowerCeiling::default();
        let alarm = Alarms { sustained: 0.5, ..Alarms::default() };
        let usual = Alarms { instantaneous: 30.0, ..Alarms::default() };
        ceiling.update(usual, 20.0, 25.0, 20.0, 1_000_000_000);
        assert_eq!(ceiling.watts(), None);
        ceiling.update(alarm, 20.0, 25.0, 20.0, 2_000_000_000);
        assert_eq!(ceiling.watts(), Some(18.0));
        ceiling.update(alarm, 20.0, 25.0, 20.0, 3_000_000_000);
        assert_eq!(ceiling.watts(), Some(18.0));
        ceiling.update(usual, 18.0, 25.0, 20.0, 4_000_000_000);
        assert!((ceiling.watts().unwrap() - 18.08).abs() < 1e-4);
        for second in 5..200 {
            ceiling.update(usual, 18.0, 25.0, 20.0, second * 1_000_000_000);
        }
        assert_eq!(ceiling.watts(), None);
    }
}
