//! Every scenario that ships, against the goals of the governor.

use std::path::PathBuf;

use headroom_device::replay::{Policy, Report, Scenario, Simulation};

/// What the governor must reach in every scenario.
const FIDELITY_OF_ORACLE: f64 = 0.98;
const MISSES_PERCENT: f64 = 0.5;
const STEADY_SWITCHES_PER_MINUTE: f64 = 6.0;
/// Of a scenario: in safe mode for longer, the fidelity is not compared.
const BLIND_SHARE: f64 = 0.1;
/// Of the time that the dense model, held fixed, spends above the passive trip.
const SHARE_ABOVE_PASSIVE: f64 = 1.0 / 20.0;

fn scenarios() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/scenarios");
    let entries = std::fs::read_dir(folder).expect("the scenarios ship with the repository");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    assert!(paths.len() >= 12, "{paths:?}");
    paths
}

#[test]
fn every_scenario_meets_the_goals() {
    let mut failures = Vec::new();
    for path in scenarios() {
        let scenario = Scenario::open(&path).expect("a valid scenario");
        let (report, _) = Report::of(&scenario).expect("limits and ladder fit");
        let (governor, oracle, dense) = (&report.governor, &report.oracle, &report.fixed[0]);
        let mut hold = |goal: &str, holds: bool| {
            if !holds {
                failures.push(format!("{}: {goal}\n{}", scenario.name, report.text()));
            }
        };
        hold("never above critical", !governor.shut_down);
        let allowed = SHARE_ABOVE_PASSIVE * dense.seconds_above_passive;
        hold("time above the passive trip", governor.seconds_above_passive <= allowed);
        if oracle.misses_percent == Some(0.0) {
            hold("misses", governor.misses_percent.unwrap_or(0.0) <= MISSES_PERCENT);
        }
        // While a sensor that a limit needs is lost, the smallest rung is what must run; the oracle loses no sensor.
        let blind = report.safe_seconds > BLIND_SHARE * scenario.seconds;
        hold("fidelity", blind || report.fidelity_of_oracle >= FIDELITY_OF_ORACLE);
        hold("no emergency", report.emergency_seconds == 0.0);
        hold("switches", governor.steady_switches_per_minute <= STEADY_SWITCHES_PER_MINUTE);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn only_sensors_that_fail_lead_to_the_safe_rung() {
    for path in scenarios() {
        let scenario = Scenario::open(&path).expect("a valid scenario");
        let run = Simulation::new(&scenario, Policy::Governor).expect("valid").run().expect("valid");
        let fails = scenario.name == "sensor loss" || scenario.name == "sensor stuck";
        assert_eq!(run.safe_seconds > 0.0, fails, "{}: {} s in safe mode", scenario.name, run.safe_seconds);
    }
}

#[test]
fn a_run_repeats_exactly() {
    let scenario = Scenario::open(&scenarios()[0]).expect("a valid scenario");
    let run = || Simulation::new(&scenario, Policy::Governor).expect("valid").run().expect("valid");
    assert_eq!(run(), run());
    let other = Scenario { seed: scenario.seed + 1, ..scenario.clone() };
    let other = Simulation::new(&other, Policy::Governor).expect("valid").run().expect("valid");
    assert_ne!(run().history, other.history);
}
