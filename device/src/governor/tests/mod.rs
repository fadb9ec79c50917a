//! The governor as its callers see it.

mod behaviour;
mod refusals;

use headroom_shared::{Energy, Power, Temperature, TimeSpan};

use super::*;
use crate::reading::Missing;

/// Four rungs of 40, 30, 20 and 10 ms that draw 20, 17, 14 and 11 W without a pause, 5 W of which the board itself.
fn rungs() -> [RungProfile; 4] {
    [(40, 800, 1.0), (30, 510, 0.95), (20, 280, 0.9), (10, 110, 0.6)].map(|(milliseconds, millijoules, fidelity)| {
        RungProfile {
            latency: TimeSpan::from_nanoseconds(milliseconds * 1_000_000),
            energy: Energy::from_microjoules(millijoules * 1_000),
            fidelity,
        }
    })
}

const TEMPERATURES: TemperatureLimits = TemperatureLimits {
    target: Temperature::from_millidegrees(85_000),
    passive: Temperature::from_millidegrees(99_000),
    critical: Temperature::from_millidegrees(104_500),
};

fn deadline(milliseconds: u64) -> Limits {
    let latency = TimeSpan::from_nanoseconds(milliseconds * 1_000_000);
    Limits { deadline: Some(Deadline { latency, miss_rate: 0.01 }), ..Limits::default() }
}

fn hot() -> Limits {
    Limits { temperature: Some(TEMPERATURES), ..Limits::default() }
}

fn governor(limits: Limits) -> Governor {
    Governor::new(&rungs(), limits).expect("valid").with_idle_power(Power::from_milliwatts(5_000))
}

fn inference(rung: u8, milliseconds: f64) -> Reading {
    let latency = TimeSpan::from_seconds(milliseconds * 1e-3).expect("a latency");
    Reading { inference: Some(InferenceSample { rung, latency }), sensors: None }
}

fn sensors(celsius: f64, watts: f64) -> Reading {
    let reading = SensorReading {
        temperature: Measurement::Measured(Temperature::from_millidegrees((celsius * 1e3) as i32)),
        power: Measurement::Measured(Power::from_milliwatts((watts * 1e3) as u32)),
        throttled: Measurement::Measured(false),
        ..SensorReading::ABSENT
    };
    Reading { inference: None, sensors: Some(reading) }
}

fn without_temperature() -> Reading {
    let reading = SensorReading { temperature: Measurement::Missing(Missing::Vanished), ..SensorReading::ABSENT };
    Reading { inference: None, sensors: Some(reading) }
}

fn at(seconds: f64) -> TimeSpan {
    TimeSpan::from_seconds(1_000.0 + seconds).expect("a time")
}
