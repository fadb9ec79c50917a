//! How many inferences a second are asked for, and what they draw.

use super::clock::{Instant, seconds};

/// Busier than this, the device may be asked for more than it does.
const SATURATED: f32 = 0.92;
/// Windows shorter than this, in seconds, are too short to count in.
const SHORTEST_WINDOW: f32 = 0.4;

/// What is counted between two passes over the sensors.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Demand {
    /// Inferences a second; `None` where more is asked for than can be done.
    per_second: Option<f32>,
    /// When the window began, and the clock's jumps then.
    began: Instant,
    jumps: u32,
    count: u32,
    busy: f32,
    /// Joules beyond the idle power, by the profile.
    dynamic_energy: f32,
}

impl Demand {
    /// Counts an inference of `seconds` that took `dynamic_energy` by its profile.
    pub fn finished(&mut self, seconds: f32, dynamic_energy: f32) {
        self.finished_several(seconds, dynamic_energy, 1);
    }

    /// Counts `count` more inferences of `seconds` and `dynamic_energy` each.
    pub fn finished_several(&mut self, seconds: f32, dynamic_energy: f32, count: u32) {
        self.count = self.count.saturating_add(count);
        self.busy += seconds * count as f32;
        self.dynamic_energy += dynamic_energy * count as f32;
    }

    /// Ends a window and returns the dynamic power in it, by the profile, in watts; `None` where the window is too
    /// short (and goes on) or the clock jumped in it (and it is void). While inferences are `paced` they say nothing
    /// of what is asked for.
    pub fn close_window(&mut self, now: Instant, jumps: u32, paced: bool) -> Option<f32> {
        let length = seconds(now, self.began);
        let void = jumps != self.jumps;
        if length < SHORTEST_WINDOW && !void {
            return None;
        }
        let (rate, busy, power) = (self.count as f32 / length, self.busy / length, self.dynamic_energy / length);
        *self = Self { per_second: self.per_second, began: now, jumps, ..Self::default() };
        if void {
            return None;
        }
        self.per_second = match self.per_second {
            _ if paced => self.per_second,
            // As much as is done is asked for; whether more is, was seen last when there was time to spare.
            Some(known) if busy > SATURATED => (rate < 1.1 * known).then_some(known),
            None if busy > SATURATED => None,
            // Up fast, down slowly: a pause is no reason to start the next burst with a rung that is too large.
            Some(known) => Some(known + (if rate > known { 0.5 } else { 0.1 }) * (rate - known)),
            None => Some(rate),
        };
        Some(power)
    }

    /// The inferences a second of a rung that takes `latency` seconds.
    pub fn rate(&self, latency: f32) -> f32 {
        let most = 1.0 / latency;
        self.per_second.map_or(most, |asked| asked.min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn window(demand: &mut Demand, second: u64, count: u32, latency: f32) {
        for _ in 0..count {
            demand.finished(latency, 0.1);
        }
        demand.close_window(second * SECOND, 0, false);
    }

    #[test]
    fn a_saturated_device_is_asked_for_as_much_as_it_can_do() {
        let mut demand = Demand::default();
        window(&mut demand, 1, 50, 0.02);
        assert_eq!(demand.rate(0.01), 100.0);
    }

    #[test]
    fn several_inferences_count_as_so_many_single_ones() {
        let (mut single, mut several) = (Demand::default(), Demand::default());
        (0..30).for_each(|_| single.finished(0.01, 0.25));
        several.finished_several(0.01, 0.25, 30);
        assert_eq!(single.close_window(SECOND, 0, false), several.close_window(SECOND, 0, false));
        assert_eq!(single.rate(0.001), several.rate(0.001));
    }

    #[test]
    fn a_camera_is_learnt_and_remembered_while_saturated() {
        let mut demand = Demand::default();
        window(&mut demand, 1, 30, 0.01);
        assert!((demand.rate(0.01) - 30.0).abs() < 0.01);
        window(&mut demand, 2, 25, 0.04);
        assert!((demand.rate(0.01) - 30.0).abs() < 0.01);
        assert!((demand.rate(0.04) - 25.0).abs() < 0.01);
        // More than was known: nothing is known.
        window(&mut demand, 3, 50, 0.02);
        assert_eq!(demand.rate(0.01), 100.0);
    }

    #[test]
    fn a_window_in_which_the_clock_jumped_is_void() {
        let mut demand = Demand::default();
        demand.finished(0.01, 0.1);
        assert_eq!(demand.close_window(SECOND, 1, false), None);
        demand.finished(0.01, 0.1);
        assert_eq!(demand.close_window(2 * SECOND, 1, false), Some(0.1));
    }
}
