//! A device does not go back behind a release that has proved itself.

use std::fs;

use headroom_tests::{is_refused, program, succeeds};

use crate::workshop::Workshop;

#[test]
fn the_minimum_is_raised_by_a_run_that_succeeded_and_by_nothing_else() {
    let workshop = Workshop::new();
    let policy = workshop.policy("", &["ours"]);
    let state = workshop.path("minimum-release.toml");
    workshop.sign("ours", 12);
    let _ = succeeds(&mut workshop.device_run(&policy));
    assert!(!state.exists(), "it was not asked for");

    let mut fails = program("device-run");
    fails.arg("--bundle").arg(workshop.bundle()).arg("--trust").arg(&policy).arg("--raise-minimum");
    is_refused(fails.arg(workshop.path("no-image.png")), &["no-image.png"]);
    assert!(!state.exists(), "the run failed");

    let _ = succeeds(workshop.device_run(&policy).arg("--raise-minimum"));
    let raised = fs::read_to_string(&state).unwrap();
    assert!(raised.contains("jetson-orin = 12"), "{raised}");

    workshop.sign("ours", 11);
    is_refused(&mut workshop.device_run(&policy), &["release 11", "none before 12"]);
    is_refused(workshop.device_run(&policy).arg("--raise-minimum"), &["release 11"]);
    assert_eq!(fs::read_to_string(&state).unwrap(), raised);

    // The same release again, and a newer one.
    workshop.sign("ours", 12);
    let _ = succeeds(workshop.device_run(&policy).arg("--raise-minimum"));
    workshop.sign("ours", 13);
    let _ = succeeds(workshop.device_run(&policy).arg("--raise-minimum"));
    assert!(fs::read_to_string(&state).unwrap().contains("jetson-orin = 13"));
}

#[test]
fn what_cannot_be_raised_is_an_error() {
    let workshop = Workshop::new();
    workshop.sign("ours", 12);
    let policy = workshop.policy("", &["ours"]);
    let text = fs::read_to_string(&policy).unwrap();
    // Nobody, not even root, can make a folder there.
    let state = workshop.path("minimum-release.toml").display().to_string();
    crate::workshop::write_policy(&policy, &text.replace(&state, "/proc/headroom/minimum.toml"));
    is_refused(workshop.device_run(&policy).arg("--raise-minimum"), &["cannot write `/proc/headroom/minimum.toml`"]);

    fs::remove_file(workshop.bundle().join("manifest.sig")).unwrap();
    let lax = workshop.policy("require = false", &["ours"]);
    is_refused(workshop.device_run(&lax).arg("--raise-minimum"), &["not signed"]);
}
