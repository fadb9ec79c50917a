//! A simulated board: what the governor is tested against.
//!
//! Work draws power, power makes heat ([`thermal`]), heat cuts clocks
//! ([`clocks`]), clocks decide how long work takes; peaks of power trip the
//! over-current circuit ([`over_current`]); and all of it is seen only through
//! [`sensors`]. Time is virtual: hours pass in seconds. Every parameter of
//! [`BoardModel`] says where it comes from.

mod board;
mod clocks;
mod over_current;
mod sensors;
mod thermal;

pub use board::BoardModel;
pub use sensors::{Fault, Sensors};
pub use thermal::ThermalNetwork;

use clocks::Clocks;
use over_current::{COST_OF_AN_EVENT, OverCurrent};

/// The temperature that idle power was measured at, °C.
const LEAKAGE_REFERENCE: f64 = 40.0;
/// Of the voltage at the full clock, the part that does not fall with the clock. Estimated.
const FLOOR_VOLTAGE: f64 = 0.6;
/// Seconds between two polls of the kernel.
const KERNEL_POLL: f64 = 1.0;

/// What surrounds the board and what else runs on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Environment {
    pub ambient_celsius: f64,
    pub fan: bool,
    /// What the sun warms the heatsink with.
    pub sun_watts: f64,
    /// The clock of the power mode, as a share of the clock that profiles were made at.
    pub clock: f64,
    /// How many times longer inferences take because of other work.
    pub co_runner_slowdown: f64,
    /// What that work draws.
    pub co_runner_watts: f64,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            ambient_celsius: 25.0,
            fan: true,
            sun_watts: 0.0,
            clock: 1.0,
            co_runner_slowdown: 1.0,
            co_runner_watts: 0.0,
        }
    }
}

/// What an inference takes on the board at its full clock, undisturbed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    pub seconds: f64,
    /// Joules beyond idle power.
    pub joules: f64,
}

/// A board at one moment of its virtual time.
#[derive(Clone, Debug)]
pub struct Plant {
    board: BoardModel,
    pub environment: Environment,
    thermal: ThermalNetwork,
    clocks: Clocks,
    over_current: OverCurrent,
    seconds: f64,
    next_poll: f64,
    shut_down: bool,
}

impl Plant {
    /// A board that has idled for long.
    #[must_use]
    pub fn new(board: BoardModel, environment: Environment) -> Self {
        Self {
            board,
            environment,
            thermal: ThermalNetwork::settled(&board, &environment, board.idle_watts),
            clocks: Clocks::default(),
            over_current: OverCurrent::default(),
            seconds: 0.0,
            next_poll: KERNEL_POLL,
            shut_down: false,
        }
    }

    /// How long an inference takes now, noise apart.
    #[must_use]
    pub fn latency(&self, work: &Work) -> f64 {
        let clock = self.clock();
        let stretched = self.board.memory_share + (1.0 - self.board.memory_share) / clock;
        let seconds = work.seconds * stretched * self.environment.co_runner_slowdown;
        let watts = self.power_without_work() + self.joules(work) / seconds;
        let sustained = if self.over_current.is_sustained(&self.board) { 2.0 } else { 1.0 };
        seconds * sustained * (1.0 + COST_OF_AN_EVENT * self.over_current.rate(&self.board, watts))
    }

    /// What an inference takes beyond idle power now: the square of the voltage, which falls with the clock.
    #[must_use]
    pub fn joules(&self, work: &Work) -> f64 {
        let voltage = FLOOR_VOLTAGE + (1.0 - FLOOR_VOLTAGE) * self.clock();
        work.joules * voltage * voltage
    }

    /// What the board draws now without inferences.
    #[must_use]
    pub fn power_without_work(&self) -> f64 {
        let leakage = self.board.leakage_per_kelvin * (self.thermal.die - LEAKAGE_REFERENCE);
        self.board.idle_watts * (1.0 + leakage).max(0.1) + self.environment.co_runner_watts
    }

    /// Lets `seconds` pass while inferences draw `watts`.
    pub fn advance(&mut self, sensors: &mut Sensors, watts: f64, seconds: f64) {
        let end = self.seconds + seconds;
        while self.seconds < end {
            let step = (end - self.seconds).min((self.next_poll - self.seconds).max(1e-9));
            let total = if self.shut_down { 0.0 } else { self.power_without_work() + watts };
            self.thermal.advance(&self.board, &self.environment, total, step);
            self.over_current.advance(&self.board, total, step);
            sensors.advance(&self.board, total, step);
            self.seconds += step;
            self.clocks.hardware(&self.board, self.thermal.die);
            if self.seconds + 1e-9 >= self.next_poll {
                self.next_poll += KERNEL_POLL;
                self.clocks.kernel_poll(&self.board, self.thermal.die);
            }
            self.shut_down |= self.thermal.die >= self.board.critical_celsius;
        }
    }

    fn clock(&self) -> f64 {
        self.clocks.share(&self.board, self.environment.clock)
    }

    #[must_use]
    pub fn board(&self) -> &BoardModel {
        &self.board
    }

    /// Of the die.
    #[must_use]
    pub fn celsius(&self) -> f64 {
        self.thermal.die
    }

    #[must_use]
    pub fn thermal(&self) -> &ThermalNetwork {
        &self.thermal
    }

    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    #[must_use]
    pub fn is_throttled(&self) -> bool {
        self.clocks.throttled()
    }

    /// Whether the critical temperature was reached: the board is off and stays off.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.shut_down
    }

    /// Over-current events since the start: sustained and instantaneous.
    #[must_use]
    pub fn over_current_events(&self) -> (f64, f64) {
        (self.over_current.sustained, self.over_current.instantaneous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work = Work { seconds: 0.03, joules: 0.55 };

    #[test]
    fn an_overheating_board_cuts_its_clocks_and_takes_longer() {
        let environment = Environment { ambient_celsius: 45.0, fan: false, ..Environment::default() };
        let mut plant = Plant::new(BoardModel::default(), environment);
        let (mut sensors, cool) = (Sensors::default(), plant.latency(&WORK));
        for _ in 0..1800 {
            plant.advance(&mut sensors, plant.joules(&WORK) / plant.latency(&WORK), 1.0);
        }
        assert!(plant.is_throttled());
        assert!(plant.latency(&WORK) > 1.5 * cool);
    }

    #[test]
    fn a_board_that_reaches_critical_stays_off() {
        let environment = Environment { ambient_celsius: 80.0, fan: false, ..Environment::default() };
        let mut plant = Plant::new(BoardModel::default(), environment);
        plant.advance(&mut Sensors::default(), 30.0, 3600.0);
        assert!(plant.is_shut_down());
        plant.advance(&mut Sensors::default(), 0.0, 36_000.0);
        assert!(plant.is_shut_down());
    }
}
