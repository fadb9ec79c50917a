//! The over-current circuit: counts events, and halves clocks for about a millisecond at each.

use super::BoardModel;

/// Events a second for each watt above the instantaneous limit, and the most of them.
const EVENTS_PER_WATT: f64 = 10.0;
const MOST_EVENTS: f64 = 30.0;
/// Seconds over which average power is taken.
const AVERAGING: f64 = 1.0;
/// The share of throughput that an event a second costs: half of a millisecond.
pub const COST_OF_AN_EVENT: f64 = 0.000_5;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OverCurrent {
    average: f64,
    /// Cumulative, as the counters are.
    pub sustained: f64,
    /// Cumulative, as the counters are.
    pub instantaneous: f64,
}

impl OverCurrent {
    /// Lets `seconds` pass while the board draws `watts`.
    pub fn advance(&mut self, board: &BoardModel, watts: f64, seconds: f64) {
        self.average += (watts - self.average) * (seconds / (seconds + AVERAGING));
        self.instantaneous += self.rate(board, watts) * seconds;
        if self.average > board.average_limit_watts {
            self.sustained += 2.0 * seconds;
        }
    }

    /// Instantaneous events a second.
    #[must_use]
    pub fn rate(&self, board: &BoardModel, watts: f64) -> f64 {
        ((watts - board.instantaneous_limit_watts) * EVENTS_PER_WATT).clamp(0.0, MOST_EVENTS)
    }

    /// Whether the average limit throttles now.
    #[must_use]
    pub fn is_sustained(&self, board: &BoardModel) -> bool {
        self.average > board.average_limit_watts
    }
}
