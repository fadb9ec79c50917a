//! Calibration of a real bundle: what is measured is what the governor is told.

use std::time::Duration;

use headroom_device::calibration::{Dwell, RungTimer, calibrate};
use headroom_device::measured_profile::{Key, MeasuredProfiles, default_path, rung_profiles};
use headroom_device::precision::Precision;
use headroom_device::reading::{Measurement, Missing};
use headroom_device::rung_engine::RungEngine;
use headroom_shared::{Origin, Power, TimeSpan};

mod random_bundle;
mod random_model;

use random_bundle::{open, tiny};

const QUICK: Dwell = Dwell { settle: Duration::ZERO, measure: Duration::from_millis(1) };

fn key(bundle_sha256: &str) -> Key {
    let bundle_sha256 = bundle_sha256.to_owned();
    let board = "a test".into();
    Key {
        board,
        power_mode: None,
        gpu_tpcs: None,
        precision: Precision::F32,
        accelerator: None,
        threads: 1,
        bundle_sha256,
    }
}

#[test]
fn every_rung_is_timed_and_its_energy_is_power_times_latency() {
    let engine = RungEngine::f32(open(&tiny(), 1, 4));
    let bundle = engine.bundle();
    let watts = Power::from_milliwatts(10_000);
    let measured = || Measurement::Measured(watts);
    let profile = calibrate(&mut RungTimer::new(&engine), key(bundle.hash()), 3, QUICK, measured).unwrap();
    assert_eq!(profile.rungs().len(), 4);
    for rung in profile.rungs() {
        assert!(rung.latency > TimeSpan::from_nanoseconds(0));
        assert_eq!(rung.energy, Some(watts.during(rung.latency)));
    }

    let home = tempfile::tempdir().unwrap();
    let path = default_path(&home.path().join("bundle"));
    let mut profiles = MeasuredProfiles::read(&path).unwrap();
    profiles.insert(profile);
    profiles.write(&path).unwrap();
    let profiles = MeasuredProfiles::read(&path).unwrap();
    let profile = profiles.find(&key(bundle.hash())).unwrap();
    let ladder = profile.overlay(bundle.structure_map().rungs()).unwrap();
    for ((rung, told), measured) in ladder.iter().zip(rung_profiles(&ladder)).zip(profile.rungs()) {
        assert_eq!((rung.latency().origin, rung.energy().origin), (Origin::Measured, Origin::Measured));
        assert_eq!((told.latency, Some(told.energy)), (measured.latency, measured.energy));
    }
    // Somewhere in the ranking, between two rungs.
    let between = profile.at((ladder[0].macs + ladder[1].macs) / 2).unwrap();
    assert!(between.energy.is_some() && between.latency_error.is_some());
}

#[test]
fn without_a_power_sensor_only_latency_is_measured() {
    let engine = RungEngine::f32(open(&tiny(), 1, 2));
    // A value of the past is none either.
    let projected = Measurement::Projected { value: Power::from_milliwatts(1), age: TimeSpan::from_nanoseconds(1) };
    for power in [Measurement::Missing(Missing::Absent), projected] {
        let mut timer = RungTimer::new(&engine);
        let profile = calibrate(&mut timer, key(engine.bundle().hash()), 1, QUICK, || power).unwrap();
        assert!(profile.rungs().iter().all(|rung| rung.energy.is_none()));
    }
}
