//! The `device-run` that goes to aarch64 boards, under qemu: it computes and finds what the one of this machine does.
//!
//! `.ci/aarch64` builds the program and runs this; without the program the test says that it is skipped.

use std::process::Command;

use headroom_tests::trees::FakeTree;
use headroom_tests::{program, relative_difference, repository, say_skipped, small_job, succeeds};
use serde_json::Value;
use tempfile::tempdir;

fn json(command: &mut Command) -> Value {
    serde_json::from_str(&succeeds(command)).expect("one JSON value")
}

fn embedding(result: &Value) -> Vec<f32> {
    result["embedding"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

#[test]
fn the_program_for_aarch64_equals_the_one_for_this_machine() {
    let Some(built) = std::env::var_os("HEADROOM_AARCH64") else {
        let test = "the_program_for_aarch64_equals_the_one_for_this_machine";
        say_skipped(&format!("{test}: HEADROOM_AARCH64 names no program; `.ci/aarch64` builds it"));
        return;
    };
    let built = repository().join(built);
    assert!(built.is_file(), "{} was not built", built.display());
    // No -L: the program is static and looks for no libraries.
    let emulated = || {
        let mut command = Command::new("qemu-aarch64");
        command.arg(&built);
        command
    };

    let home = tempdir().unwrap();
    let bundle = home.path().join("bundle");
    let _ = succeeds(&mut small_job(&bundle));
    let mut rungs = Vec::new();
    for macs in ["100%", "70%", "40%"] {
        let infer = |mut command: Command| {
            command.args(["--synthetic", "1", "--embedding", "--macs", macs, "--bundle"]).arg(&bundle);
            json(&mut command)
        };
        let (found, expected) = (infer(emulated()), infer(program("device-run")));
        assert_eq!(found["rung"], expected["rung"], "{macs}");
        let difference = relative_difference(&embedding(&found), &embedding(&expected));
        assert!(difference <= 1e-4, "{macs}: {difference}");
        rungs.push(found["rung"].as_u64().unwrap());
    }
    rungs.dedup();
    assert_eq!(rungs.len(), 3, "three rungs were compared: {rungs:?}");

    let tree = FakeTree::of("jetson-agx-orin");
    let probe = |mut command: Command| {
        let report = json(command.args(["--probe", "--json", "--root"]).arg(tree.root()).arg("--bundle").arg(&bundle));
        // The names, without ages and times.
        let names = |list: &str| -> Vec<(Value, Value, Value)> {
            let rows = report[list].as_array().unwrap().iter();
            rows.map(|row| (row["kind"].clone(), row["name"].clone(), row["value"].clone())).collect()
        };
        (names("found"), report["missing"].clone(), report["power_mode"].clone())
    };
    let (found, expected) = (probe(emulated()), probe(program("device-run")));
    assert!(!expected.0.is_empty());
    assert_eq!(found, expected);
}
