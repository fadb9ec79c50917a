//! Clocks: the power mode's, cut by the kernel at the passive trip and halved by the hardware above it.

use super::BoardModel;

/// Kelvin below a trip at which what it did is undone.
const HYSTERESIS: f64 = 1.0;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Clocks {
    /// Steps of cooling that the kernel has taken.
    cuts: u32,
    halved: bool,
}

impl Clocks {
    /// What the kernel does every second: a step at a time, as its `step_wise` governor.
    pub fn kernel_poll(&mut self, board: &BoardModel, celsius: f64) {
        let most = ((1.0 - board.least_clock) / board.clock_step.max(1e-3)) as u32;
        if celsius >= board.passive_celsius {
            self.cuts = (self.cuts + 1).min(most);
        } else if celsius < board.passive_celsius - HYSTERESIS {
            self.cuts = self.cuts.saturating_sub(1);
        }
    }

    /// What the hardware does at once.
    pub fn hardware(&mut self, board: &BoardModel, celsius: f64) {
        if celsius >= board.hardware_throttle_celsius {
            self.halved = true;
        } else if celsius < board.hardware_throttle_celsius - 2.0 * HYSTERESIS {
            self.halved = false;
        }
    }

    /// As a share of the clock that profiles were made at, in a power mode that runs at `mode` of it.
    #[must_use]
    pub fn share(&self, board: &BoardModel, mode: f64) -> f64 {
        let cut = (1.0 - f64::from(self.cuts) * board.clock_step).max(board.least_clock);
        let halved = if self.halved { 0.5 } else { 1.0 };
        mode.min(cut) * halved
    }

    /// What the cooling devices say.
    #[must_use]
    pub fn throttled(&self) -> bool {
        self.cuts > 0 || self.halved
    }
}
