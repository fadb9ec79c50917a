//! Whether to believe a sensor: spikes, sensors that are stuck and sensors that are lost.

use headroom_shared::TimeSpan;

use super::clock::{Instant, seconds};
use crate::reading::Measurement;

/// What a sensor of one kind can say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plausible {
    pub least: f32,
    pub most: f32,
    /// The fastest change a second; a jump beyond it must be confirmed.
    pub fastest: f32,
    /// Readings may differ by so much at any time.
    pub noise: f32,
}

/// A sensor that has changed in more than half of its readings and then says the same so many times is stuck.
const UNCHANGED_OF_A_LIVELY_SENSOR: u32 = 30;
/// Any sensor that says the same so many times, and for as many seconds, while the load changes is stuck.
const UNCHANGED_UNDER_CHANGING_LOAD: u32 = 20;
/// A sensor that has never said anything else in so many readings and seconds is stuck: work heats a board.
const UNCHANGED_FROM_THE_START: u32 = 300;
/// The share of the ladder's power range that makes a change of load.
const CHANGE_OF_LOAD: f32 = 0.2;

/// What is known of one sensor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sensor {
    /// The last three that were accepted, newest first.
    recent: [f32; 3],
    /// Their median.
    value: f32,
    /// Of the median, a second, smoothed.
    slope: f32,
    /// When `value` was accepted.
    accepted: Option<Instant>,
    /// A jump that awaits its confirmation, and when it was read.
    suspect: Option<(f32, Instant)>,
    unchanged: u32,
    /// For how many seconds.
    unchanged_for: f32,
    read: Instant,
    /// The share of readings that differed from the one before, over the last sixteen or so.
    lively: f32,
    ever_changed: bool,
    /// The smoothed load, and its extremes since the sensor last changed.
    load: Option<(f32, f32, f32)>,
}

impl Sensor {
    /// Takes in a reading and returns it if it is new and plausible.
    /// `load` is what the inferences draw, as a share of the ladder's power range.
    pub fn take(&mut self, reading: Measurement<f32>, plausible: &Plausible, load: f32, now: Instant) -> Option<f32> {
        let value = match reading {
            Measurement::Measured(value) => value,
            Measurement::Projected { value, age } if self.accepted.is_none() && seconds_of(age) < 2.0 => value,
            _ => return None,
        };
        if !(plausible.least..=plausible.most).contains(&value) {
            return None;
        }
        self.watch_for_change(value, load, now);
        let Some(at) = self.accepted else {
            *self = Self { recent: [value; 3], value, accepted: Some(now), ..*self };
            return Some(value);
        };
        let allowed = |since: Instant| plausible.noise + plausible.fastest * seconds(now, since);
        if libm::fabsf(value - self.recent[0]) > allowed(at) {
            let confirmed = self.suspect.is_some_and(|(suspect, read)| libm::fabsf(value - suspect) <= allowed(read));
            if !confirmed {
                self.suspect = Some((value, now));
                return None;
            }
            // From here on it is another world: what the old one was like says nothing about it.
            *self = Self { recent: [value; 3], value, slope: 0.0, suspect: None, accepted: Some(now), ..*self };
            return Some(value);
        }
        self.recent = [value, self.recent[0], self.recent[1]];
        let median = median(self.recent);
        let gap = seconds(now, at);
        if gap > 0.1 {
            self.slope += 0.5 * ((median - self.value) / gap - self.slope);
        }
        *self = Self { value: median, suspect: None, accepted: Some(now), ..*self };
        Some(value)
    }

    fn watch_for_change(&mut self, value: f32, load: f32, now: Instant) {
        let since_last = seconds(now, self.read);
        self.read = now;
        let smoothed = self.load.map_or(load, |(smoothed, ..)| smoothed + 0.2 * (load - smoothed));
        let last = self.suspect.map_or(self.recent[0], |(suspect, _)| suspect);
        let same = self.accepted.is_some() && value == last;
        if same {
            self.unchanged = self.unchanged.saturating_add(1);
            self.unchanged_for += since_last;
            let (_, low, high) = self.load.unwrap_or((load, load, load));
            self.load = Some((smoothed, low.min(smoothed), high.max(smoothed)));
            return;
        }
        if self.accepted.is_some() {
            self.ever_changed = true;
            self.lively += (1.0 - self.lively) / 16.0;
            // The run of equal readings that ends here counts for as many.
            for _ in 0..self.unchanged.min(64) {
                self.lively -= self.lively / 16.0;
            }
        }
        self.unchanged = 0;
        self.unchanged_for = 0.0;
        self.load = Some((smoothed, smoothed, smoothed));
    }

    pub fn is_stuck(&self) -> bool {
        let change_of_load = self.load.map_or(0.0, |(_, low, high)| high - low);
        let for_long = |count: u32| self.unchanged >= count && self.unchanged_for >= count as f32;
        (self.unchanged >= UNCHANGED_OF_A_LIVELY_SENSOR && self.lively > 0.5)
            || (for_long(UNCHANGED_UNDER_CHANGING_LOAD) && change_of_load > CHANGE_OF_LOAD)
            || (for_long(UNCHANGED_FROM_THE_START) && !self.ever_changed)
    }

    /// Whether it has said nothing believable for longer than `patience`. Before the first reading, time counts from
    /// the start.
    pub fn is_lost(&self, patience: TimeSpan, now: Instant) -> bool {
        self.is_stuck() || now.saturating_sub(self.accepted.unwrap_or(0)) > patience.as_nanoseconds()
    }

    pub fn was_ever_read(&self) -> bool {
        self.accepted.is_some()
    }

    /// Where the value will be `ahead` seconds from now if it goes on rising as it does; where it is if it falls.
    pub fn projected(&self, ahead: f32, now: Instant) -> Option<f32> {
        self.accepted.map(|at| self.value + self.slope.max(0.0) * (seconds(now, at) + ahead))
    }

    /// The median of the last three plausible readings: a spike too small to be implausible changes nothing either.
    pub fn value(&self) -> Option<f32> {
        self.accepted.map(|_| self.value)
    }
}

fn median([a, b, c]: [f32; 3]) -> f32 {
    a.max(b).min(a.min(b).max(c))
}

fn seconds_of(span: TimeSpan) -> f32 {
    seconds(span.as_nanoseconds(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Missing;

    const PLAUSIBLE: Plausible = Plausible { least: -60.0, most: 200.0, fastest: 8.0, noise: 3.0 };
    const SECOND: u64 = 1_000_000_000;
    const PATIENCE: TimeSpan = TimeSpan::from_nanoseconds(5 * SECOND);

    fn read(sensor: &mut Sensor, value: f32, load: f32, at: u64) -> Option<f32> {
        sensor.take(Measurement::Measured(value), &PLAUSIBLE, load, at * SECOND)
    }

    #[test]
    fn a_spike_is_rejected_and_a_confirmed_jump_believed() {
        let mut sensor = Sensor::default();
        assert_eq!(read(&mut sensor, 60.0, 0.5, 0), Some(60.0));
        assert_eq!(read(&mut sensor, 120.0, 0.5, 1), None);
        assert_eq!(read(&mut sensor, 60.5, 0.5, 2), Some(60.5));
        assert_eq!(read(&mut sensor, 90.0, 0.5, 3), None);
        assert_eq!(read(&mut sensor, 91.0, 0.5, 4), Some(91.0));
        assert_eq!(read(&mut sensor, f32::NAN, 0.5, 5), None);
        assert_eq!(read(&mut sensor, 900.0, 0.5, 5), None);
    }

    #[test]
    fn a_plausible_spike_does_not_pass_the_median() {
        let mut sensor = Sensor::default();
        for (second, value) in [60.0, 60.1, 68.0, 60.2, 60.1].into_iter().enumerate() {
            assert_eq!(read(&mut sensor, value, 0.5, second as u64), Some(value));
            let believed = sensor.value().expect("read");
            assert!((59.9..60.3).contains(&believed), "{believed}");
        }
    }

    #[test]
    fn a_sensor_without_readings_is_lost_after_the_patience() {
        let mut sensor = Sensor::default();
        assert!(!sensor.is_lost(PATIENCE, 5 * SECOND));
        assert!(sensor.is_lost(PATIENCE, 5 * SECOND + 1));
        read(&mut sensor, 60.0, 0.5, 6);
        assert!(!sensor.is_lost(PATIENCE, 11 * SECOND));
        let gone = sensor.take(Measurement::Missing(Missing::Vanished), &PLAUSIBLE, 0.5, 12 * SECOND);
        assert_eq!(gone, None);
        assert!(sensor.is_lost(PATIENCE, 12 * SECOND));
    }

    #[test]
    fn a_lively_sensor_that_falls_silent_is_stuck() {
        let mut sensor = Sensor::default();
        for second in 0..40 {
            read(&mut sensor, 60.0 + (second % 7) as f32 * 0.1, 0.5, second);
        }
        assert!(!sensor.is_stuck());
        for second in 40..80 {
            read(&mut sensor, 60.0, 0.5, second);
        }
        assert!(sensor.is_stuck());
        read(&mut sensor, 60.1, 0.5, 80);
        assert!(!sensor.is_stuck());
    }

    #[test]
    fn a_coarse_sensor_is_stuck_only_where_the_load_has_changed() {
        let mut sensor = Sensor::default();
        for second in 0..200 {
            read(&mut sensor, if second < 3 { 50.0 } else { 51.0 }, 0.2, second);
        }
        assert!(!sensor.is_stuck());
        for second in 200..240 {
            read(&mut sensor, 51.0, 0.9, second);
        }
        assert!(sensor.is_stuck());
    }
}
