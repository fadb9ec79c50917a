//! Ten thousand random boards with faults, in virtual time: the hard limits hold on all of them.
//!
//! The boards differ in every parameter, their profiles are wrong by up to a
//! factor of two, fans stop, clocks are cut, other programs run, sensors are
//! lost, stick, lag and lie, and the clock jumps. On a third of them neither
//! kernel nor hardware cuts clocks, so that the governor alone stands between
//! the board and its shutdown; those keep a working temperature sensor, since
//! without one nobody can know. Only boards that would survive doing nothing
//! are drawn.

use std::path::Path;

use headroom_device::governor::{Binding, Decision, Governor, Mode};
use headroom_device::plant::{BoardModel, Environment, Fault, Plant, ThermalNetwork};
use headroom_device::replay::scenario::Change;
use headroom_device::replay::{LadderModel, Policy, Scenario, Simulation};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const PLANTS: u64 = 10_000;
/// Readings are noisy and late: the true temperature may be this much above the one that ended an emergency.
const MEASUREMENT_ERROR: f64 = 4.0;

/// What was seen on a plant, or on many of them.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    emergencies: u64,
    safe: u64,
    near_target: u64,
}

#[test]
fn hard_limits_hold_on_ten_thousand_random_plants() {
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let share =
        |thread: u64| -> Vec<Result<Seen, String>> { (thread..PLANTS).step_by(threads as usize).map(run).collect() };
    let results: Vec<Result<Seen, String>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || share(thread))).collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("no panic")).collect()
    });
    let mut seen = Seen::default();
    let mut failures = Vec::new();
    for result in results {
        match result {
            Ok(plant) => {
                seen.emergencies += plant.emergencies;
                seen.safe += plant.safe;
                seen.near_target += plant.near_target;
            }
            Err(failure) => failures.push(failure),
        }
    }
    println!("{PLANTS} plants: {seen:?}");
    let shown = failures.len().min(20);
    assert!(failures.is_empty(), "{} plants failed:\n{}", failures.len(), failures[..shown].join("\n"));
    // Otherwise the plants are too tame to show anything.
    assert!(seen.safe > 500 && seen.near_target > 2_000, "{seen:?}");
}

/// Runs the plant of a seed to its end.
fn run(seed: u64) -> Result<Seen, String> {
    let scenario = random_scenario(seed);
    let failed = |what: &dyn std::fmt::Display| format!("seed {seed}: {what}");
    let (mut last, mut seen, mut broken) = (Mode::Normal, Seen::default(), None);
    let simulation = Simulation::new(&scenario, Policy::Governor).map_err(|error| failed(&error))?;
    let simulation = simulation.without_history().observed(|plant, governor, decision| {
        let rule = emergency_rule(plant, governor, decision, last);
        broken = broken.take().or(rule);
        seen.emergencies |= u64::from(decision.mode == Mode::Emergency);
        seen.safe |= u64::from(decision.mode == Mode::Safe);
        last = decision.mode;
    });
    let metrics = simulation.run().map_err(|error| failed(&error))?.metrics;
    if let Some(rule) = broken {
        return Err(failed(&rule));
    }
    if metrics.shut_down {
        return Err(failed(&format!("shut down: {}", summary(&scenario))));
    }
    seen.near_target = u64::from(metrics.highest_celsius > scenario.limits.target_celsius.unwrap_or(0.0) - 5.0);
    Ok(seen)
}

/// The rule of emergencies that a decision breaks.
fn emergency_rule(plant: &Plant, governor: &Governor, decision: &Decision, last: Mode) -> Option<String> {
    let target = f64::from(governor.limits().temperature?.target.as_millidegrees()) * 1e-3;
    if decision.mode == Mode::Emergency {
        let paced = decision.pace >= governor.gains().longest_pace && decision.binding == Binding::Emergency;
        return (!paced).then(|| format!("an emergency without its pause: {decision:?}"));
    }
    let celsius = plant.celsius();
    let early = last == Mode::Emergency && celsius > target + MEASUREMENT_ERROR;
    early.then(|| format!("out of the emergency at {celsius:.1} °C, target {target:.1}"))
}

/// What matters of a scenario that failed.
fn summary(scenario: &Scenario) -> String {
    let events: Vec<String> = scenario
        .event
        .iter()
        .map(|change| {
            format!(
                "{:.0} s: ambient {:?} fan {:?} sun {:?} co {:?} fault {:?} jump {:?} ladder {}",
                change.at_seconds,
                change.ambient_celsius,
                change.fan,
                change.sun_watts,
                change.co_runner_watts,
                change.fault,
                change.clock_jump_seconds,
                change.ladder.is_some()
            )
        })
        .collect();
    format!(
        "{:?} {:?} {:?} {:?} {events:#?}",
        scenario.board, scenario.ladder, scenario.limits, scenario.start.ambient_celsius
    )
}

fn random_scenario(seed: u64) -> Scenario {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    loop {
        let scenario = draw(seed, &mut random);
        if survives_idle(&scenario) {
            return scenario;
        }
    }
}

/// Whether the board stays below its passive trip while it does nothing, in the worst of what happens to it.
fn survives_idle(scenario: &Scenario) -> bool {
    let changes = || std::iter::once(&scenario.start).chain(&scenario.event);
    let most = |of: fn(&Change) -> Option<f64>, none: f64| changes().filter_map(of).fold(none, f64::max);
    let worst = Environment {
        ambient_celsius: most(|change| change.ambient_celsius, 25.0),
        fan: !changes().any(|change| change.fan == Some(false)),
        sun_watts: most(|change| change.sun_watts, 0.0),
        ..Environment::default()
    };
    let board = &scenario.board;
    let leakage = 1.0 + board.leakage_per_kelvin * (board.passive_celsius - 40.0).max(0.0);
    let watts = board.idle_watts * leakage + most(|change| change.co_runner_watts, 0.0);
    ThermalNetwork::settled(board, &worst, watts).die < scenario.limits.target_celsius.unwrap_or(0.0) - 2.0
}

fn draw(seed: u64, random: &mut ChaCha8Rng) -> Scenario {
    let mut text = Scenario::parse(TEMPLATE, Path::new("template")).expect("the template is valid");
    let protected = random.random::<f64>() < 0.67;
    let fan = random.random_range(0.5..4.0);
    let still = fan * random.random_range(1.0..4.0);
    text.ladder = ladder(random);
    // The die is 1 to 15 K warmer than the heatsink under the dense model: on the developer kit it is about 12.
    let dense = text.ladder.dense_millijoules * text.ladder.true_energy
        / (text.ladder.dense_milliseconds * text.ladder.true_latency);
    let die = random.random_range(1.0..15.0) / dense;
    let die_joules = random.random_range(2.0..10.0) / die;
    let passive = random.random_range(75.0..100.0);
    text.board = BoardModel {
        idle_watts: random.random_range(0.5..8.0),
        leakage_per_kelvin: random.random_range(0.0..0.008),
        die_kelvin_per_watt: die,
        die_joules_per_kelvin: die_joules,
        still_air_kelvin_per_watt: still,
        fan_kelvin_per_watt: fan,
        // A heatsink holds more heat than a die.
        sink_joules_per_kelvin: (random.random_range(30.0..300.0) / still).max(2.0 * die_joules),
        passive_celsius: passive,
        hardware_throttle_celsius: if protected { passive + 4.0 } else { passive + 5.49 },
        critical_celsius: passive + 5.5,
        clock_step: if protected { random.random_range(0.02..0.1) } else { 0.0 },
        memory_share: random.random_range(0.0..0.6),
        average_limit_watts: random.random_range(15.0..60.0),
        instantaneous_limit_watts: random.random_range(10.0..60.0),
        polling_seconds: random.random_range(0.5..1.5),
        temperature_noise_kelvin: random.random_range(0.0..0.5),
        temperature_step_kelvin: if random.random() { 0.031 } else { random.random_range(0.1..1.0) },
        power_noise: random.random_range(0.0..0.03),
        latency_noise: random.random_range(0.002..0.1),
        ..BoardModel::default()
    };
    text.seed = seed;
    text.frames_per_second = random.random::<bool>().then(|| random.random_range(1.0..8.0));
    text.limits.target_celsius = Some(passive - random.random_range(3.0..20.0));
    text.limits.deadline_milliseconds = random.random::<bool>().then(|| random.random_range(50.0..600.0));
    text.limits.power_watts = random.random::<bool>().then(|| random.random_range(5.0..40.0));
    text.start.ambient_celsius = Some(random.random_range(-10.0..60.0));
    let events = random.random_range(0..6);
    let mut times: Vec<f64> = (0..events).map(|_| random.random_range(5.0..text.seconds - 5.0)).collect();
    times.sort_by(f64::total_cmp);
    for at_seconds in times {
        let mut change = Change { at_seconds, ..Default::default() };
        match random.random_range(0..9) {
            0 => change.ambient_celsius = Some(random.random_range(-10.0..60.0)),
            1 => change.fan = Some(random.random()),
            2 => change.sun_watts = Some(random.random_range(0.0..5.0)),
            3 => change.clock = Some(random.random_range(0.4..1.0)),
            4 => {
                change.co_runner_slowdown = Some(random.random_range(1.0..3.0));
                change.co_runner_watts = Some(dense * random.random_range(0.0..0.5));
            }
            5 => change.clock_jump_seconds = Some(random.random_range(-5000.0..5000.0)),
            6 => change.odd_latencies = Some(random.random_range(0.0..0.1)),
            7 => change.ladder = Some(another_ladder(text.ladder, random)),
            _ => change.fault = Some(fault(random, protected)),
        }
        text.event.push(change);
    }
    text
}

fn ladder(random: &mut ChaCha8Rng) -> LadderModel {
    let dense_milliseconds = random.random_range(60.0..400.0);
    LadderModel {
        rungs: random.random_range(2..32),
        dense_milliseconds,
        overhead_milliseconds: dense_milliseconds * random.random_range(0.0..0.2),
        // 2 to 40 W beyond idle at full speed.
        dense_millijoules: dense_milliseconds * random.random_range(2.0..40.0),
        true_latency: random.random_range(0.5..2.0),
        true_energy: random.random_range(0.5..2.0),
    }
}

/// Of a bundle whose dense model draws as much.
fn another_ladder(ladder: LadderModel, random: &mut ChaCha8Rng) -> LadderModel {
    let larger = random.random_range(0.5..2.0);
    LadderModel {
        dense_milliseconds: ladder.dense_milliseconds * larger,
        overhead_milliseconds: 0.0,
        dense_millijoules: ladder.dense_millijoules * larger,
        ..ladder
    }
}

fn fault(random: &mut ChaCha8Rng, protected: bool) -> Fault {
    const ANY: [Fault; 7] = [
        Fault::TemperatureLost,
        Fault::TemperatureStuck,
        Fault::Silent,
        Fault::None,
        Fault::Spikes,
        Fault::Projected,
        Fault::PowerLost,
    ];
    let harmless = &ANY[3..];
    if protected { ANY[random.random_range(0..ANY.len())] } else { harmless[random.random_range(0..harmless.len())] }
}

const TEMPLATE: &str = r#"
name = "random plant"
about = "Drawn by the test."
seconds = 240
[ladder]
rungs = 24
dense_milliseconds = 100
dense_millijoules = 1000
[limits]
"#;
