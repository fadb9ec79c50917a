//! The time of a step of the governor, on a ladder of 24 rungs with every
//! limit set. `cargo bench -p headroom-device --bench governor`

use std::hint::black_box;
use std::time::Instant;

use headroom_device::governor::{Deadline, Governor, Limits, RungProfile, TemperatureLimits};
use headroom_device::reading::{InferenceSample, Measurement, Reading, SensorReading};
use headroom_shared::{Energy, Power, Temperature, TimeSpan};

/// Steps in one measurement: a single one is near the clock's resolution.
const STEPS: u64 = 10_000;
const MEASUREMENTS: usize = 101;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rungs: Vec<RungProfile> = (0..24).map(rung).collect();
    let limits = Limits {
        deadline: Some(Deadline { latency: TimeSpan::from_nanoseconds(25_000_000), miss_rate: 0.01 }),
        power: Some(Power::from_milliwatts(20_000)),
        temperature: Some(TemperatureLimits {
            target: Temperature::from_millidegrees(85_000),
            passive: Temperature::from_millidegrees(99_000),
            critical: Temperature::from_millidegrees(104_500),
        }),
        energy: Some(Energy::from_microjoules(600_000)),
        minimum_fidelity: Some(0.6),
    };
    let governor = Governor::new(&rungs, limits)?.with_idle_power(Power::from_milliwatts(5_400));
    let inference = |step: u64| Reading {
        inference: Some(InferenceSample {
            rung: 8,
            latency: TimeSpan::from_nanoseconds(20_000_000 + (step * 7_919) % 400_000),
        }),
        sensors: None,
    };
    let sensors = |step: u64| Reading {
        inference: None,
        sensors: Some(SensorReading {
            temperature: Measurement::Measured(Temperature::from_millidegrees(80_000 + (step as i32 * 31) % 900)),
            power: Measurement::Measured(Power::from_milliwatts(15_000 + (step as u32 * 17) % 700)),
            throttled: Measurement::Measured(false),
            ..SensorReading::ABSENT
        }),
    };
    measure(&governor, "after an inference", 33_000_000, inference);
    measure(&governor, "after a pass over the sensors", 1_000_000_000, sensors);
    Ok(())
}

fn rung(index: u64) -> RungProfile {
    RungProfile {
        latency: TimeSpan::from_nanoseconds(30_000_000 - index * 1_200_000),
        energy: Energy::from_microjoules(750_000 - index * 30_000),
        fidelity: 1.0 - 0.02 * index as f32,
    }
}

fn measure(governor: &Governor, what: &str, period: u64, reading: impl Fn(u64) -> Reading) {
    let mut state = governor.start();
    let mut step = 0;
    let mut nanoseconds = Vec::with_capacity(MEASUREMENTS);
    for _ in 0..MEASUREMENTS {
        let start = Instant::now();
        for _ in 0..STEPS {
            step += 1;
            let now = TimeSpan::from_nanoseconds(step * period);
            black_box(governor.step(&mut state, &black_box(reading(step)), now));
        }
        nanoseconds.push(start.elapsed().as_secs_f64() * 1e9 / STEPS as f64);
    }
    nanoseconds.sort_by(f64::total_cmp);
    println!(
        "step {what}: median {:.0} ns, slowest {:.0} ns",
        nanoseconds[MEASUREMENTS / 2],
        nanoseconds[MEASUREMENTS - 1]
    );
}
