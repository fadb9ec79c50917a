//! What the governor gets to read: late, noisy, and sometimes wrong.

use headroom_shared::{Power, Temperature, TimeSpan};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::Deserialize;

use super::{BoardModel, Plant};
use crate::reading::{Measurement, Missing, OverCurrentRates, SensorReading};

/// What is wrong with the sensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    #[default]
    None,
    /// The temperature cannot be read.
    TemperatureLost,
    /// The temperature says for ever what it said last.
    TemperatureStuck,
    /// Every twentieth reading is nonsense.
    Spikes,
    /// The power cannot be read.
    PowerLost,
    /// Nothing is read: the passes fail.
    Silent,
    /// Every other pass says what an earlier one did, with its age.
    Projected,
}

/// The share of readings that are spikes where there are spikes.
const SPIKES: f64 = 0.05;

#[derive(Clone, Debug, Default)]
pub struct Sensors {
    lagged_watts: Option<f64>,
    last_celsius: Option<f64>,
    passes: u64,
    counted: (f64, f64),
    counted_at: f64,
    rates: OverCurrentRates,
}

impl Sensors {
    /// Lets the power sensor follow `watts` for `seconds`.
    pub fn advance(&mut self, board: &BoardModel, watts: f64, seconds: f64) {
        let lagged = self.lagged_watts.unwrap_or(watts);
        self.lagged_watts = Some(lagged + (watts - lagged) * (1.0 - (-seconds / board.power_lag_seconds).exp()));
    }

    /// A pass; `None` where it fails as a whole.
    pub fn read(&mut self, plant: &Plant, fault: Fault, random: &mut ChaCha8Rng) -> Option<SensorReading> {
        self.passes += 1;
        let mut normal = || -> f64 { StandardNormal.sample(random) };
        let board = plant.board();
        let noisy = plant.celsius() + board.temperature_noise_kelvin * normal();
        let step = board.temperature_step_kelvin.max(1e-3);
        let celsius = (noisy / step).round() * step;
        let watts = self.lagged_watts.unwrap_or(board.idle_watts) * (1.0 + board.power_noise * normal());
        let (mut celsius, mut watts) = match (fault, self.last_celsius) {
            (Fault::TemperatureStuck, Some(last)) => (last, watts),
            _ => (celsius, watts),
        };
        self.last_celsius = Some(celsius);
        if fault == Fault::Spikes && random.random::<f64>() < SPIKES {
            (celsius, watts) = (random.random_range(-55.0..127.0), random.random_range(0.0..500.0));
        }
        self.count_over_current(plant);
        let temperature = Temperature::from_millidegrees((celsius * 1e3) as i32);
        let power = Measurement::Measured(Power::from_milliwatts((watts * 1e3).max(0.0) as u32));
        let reading = SensorReading {
            temperature: Measurement::Measured(temperature),
            power,
            throttled: Measurement::Measured(plant.is_throttled()),
            over_current: Measurement::Measured(self.rates),
            ..SensorReading::ABSENT
        };
        match fault {
            Fault::Silent => None,
            Fault::TemperatureLost => {
                Some(SensorReading { temperature: Measurement::Missing(Missing::Vanished), ..reading })
            }
            Fault::PowerLost => Some(SensorReading { power: Measurement::Missing(Missing::Vanished), ..reading }),
            Fault::Projected if self.passes % 2 == 1 => {
                let age = TimeSpan::from_nanoseconds(1_000_000_000);
                Some(SensorReading { temperature: Measurement::Projected { value: temperature, age }, ..reading })
            }
            _ => Some(reading),
        }
    }

    /// The counters are refreshed about every two seconds.
    fn count_over_current(&mut self, plant: &Plant) {
        let passed = plant.seconds() - self.counted_at;
        if passed < 1.9 {
            return;
        }
        let counted = plant.over_current_events();
        let rate = |now: f64, before: f64| ((now.floor() - before.floor()) / passed) as f32;
        self.rates = OverCurrentRates {
            sustained: rate(counted.0, self.counted.0),
            instantaneous: rate(counted.1, self.counted.1),
        };
        self.counted = counted;
        self.counted_at = plant.seconds();
    }
}
