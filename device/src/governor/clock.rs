//! Time as the governor counts it: only forwards, and never by much at once.

use headroom_shared::TimeSpan;

/// The longest gap between two steps that counts in full. What a longer one
/// hid (a suspended board, a clock that was set) is not known, so nothing may
/// be concluded from its length.
const LONGEST_GAP: u64 = 2_000_000_000;

/// Nanoseconds since the first step, without the gaps.
pub(super) type Instant = u64;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    last: Option<u64>,
    elapsed: Instant,
    jumps: u32,
}

impl Clock {
    /// Takes in the caller's clock.
    pub fn advance(&mut self, now: TimeSpan) -> Instant {
        let now = now.as_nanoseconds();
        let last = self.last.replace(now).unwrap_or(now);
        let gap = now.saturating_sub(last);
        if now < last || gap > LONGEST_GAP {
            self.jumps = self.jumps.wrapping_add(1);
        }
        self.elapsed = self.elapsed.saturating_add(gap.min(LONGEST_GAP));
        self.elapsed
    }

    /// Changes whenever the caller's clock went backwards or leapt: what was counted over such a gap is void.
    pub fn jumps(&self) -> u32 {
        self.jumps
    }
}

/// The seconds from `earlier` to `later`.
pub(super) fn seconds(later: Instant, earlier: Instant) -> f32 {
    later.saturating_sub(earlier) as f32 * 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_runs_backwards_and_never_leaps() {
        let mut clock = Clock::default();
        let mut at = |seconds: u64| clock.advance(TimeSpan::from_nanoseconds(seconds * 1_000_000_000));
        assert_eq!(at(1_000), 0);
        assert_eq!(at(1_002), 2_000_000_000);
        assert_eq!(at(3), 2_000_000_000);
        assert_eq!(at(4), 3_000_000_000);
        assert_eq!(at(1_000_000), 5_000_000_000);
        assert_eq!(clock.jumps(), 2);
    }
}
