//! Heat: a network of two nodes. The die is warmed by what the board draws and
//! gives it off to the heatsink, and that to the air.

use super::{BoardModel, Environment};

/// The longest step of the integration, as a share of the shorter node's time constant.
const STEP: f64 = 0.1;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThermalNetwork {
    /// °C.
    pub die: f64,
    /// °C.
    pub sink: f64,
}

impl ThermalNetwork {
    /// As it has settled under `watts`.
    #[must_use]
    pub fn settled(board: &BoardModel, environment: &Environment, watts: f64) -> Self {
        let sink = environment.ambient_celsius + (watts + environment.sun_watts) * to_air(board, environment);
        Self { die: sink + watts * board.die_kelvin_per_watt, sink }
    }

    /// Lets `seconds` pass while the board draws `watts`.
    pub fn advance(&mut self, board: &BoardModel, environment: &Environment, watts: f64, seconds: f64) {
        let smaller = board.die_joules_per_kelvin.min(board.sink_joules_per_kelvin);
        let longest = STEP * board.die_kelvin_per_watt * smaller;
        let steps = (seconds / longest).ceil().max(1.0);
        let step = seconds / steps;
        for _ in 0..steps as u64 {
            let to_sink = (self.die - self.sink) / board.die_kelvin_per_watt;
            let to_air = (self.sink - environment.ambient_celsius) / to_air(board, environment);
            self.die += step * (watts - to_sink) / board.die_joules_per_kelvin;
            self.sink += step * (to_sink + environment.sun_watts - to_air) / board.sink_joules_per_kelvin;
        }
    }
}

/// From the heatsink to the air, K/W.
fn to_air(board: &BoardModel, environment: &Environment) -> f64 {
    if environment.fan { board.fan_kelvin_per_watt } else { board.still_air_kelvin_per_watt }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured on the developer kit without a fan: full power warms it from 42 to 85 °C in 9.7 minutes.
    #[test]
    fn warms_as_the_developer_kit_does() {
        let board = BoardModel::default();
        let environment = Environment { fan: false, ambient_celsius: 23.0, ..Environment::default() };
        let mut network = ThermalNetwork { die: 42.0, sink: 42.0 };
        // The steady temperature was 99 °C.
        let watts = (99.0 - 23.0) / (board.still_air_kelvin_per_watt + board.die_kelvin_per_watt);
        let mut seconds = 0;
        while network.die < 85.0 {
            network.advance(&board, &environment, watts, 1.0);
            seconds += 1;
        }
        assert!((480..=660).contains(&seconds), "{seconds} s");
    }

    #[test]
    fn a_settled_network_stays_so() {
        let (board, environment) = (BoardModel::default(), Environment::default());
        let start = ThermalNetwork::settled(&board, &environment, 10.0);
        let mut network = start;
        network.advance(&board, &environment, 10.0, 3600.0);
        assert!((network.die - start.die).abs() < 1e-6 && (network.sink - start.sink).abs() < 1e-6);
    }
}
