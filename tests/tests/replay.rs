//! `device-replay` as a whole program: what it tells and what it refuses.

use std::path::{Path, PathBuf};
use std::process::Command;

use headroom_tests::{is_refused, program, repository, succeeds};

fn scenario(name: &str) -> PathBuf {
    repository().join("tests/scenarios").join(name).with_extension("toml")
}

fn replay(scenario: &Path) -> Command {
    let mut command = program("device-replay");
    command.arg("--scenario").arg(scenario);
    command
}

#[test]
fn the_report_is_versioned_json_and_a_drawing() {
    let folder = tempfile::tempdir().expect("a folder");
    let svg = folder.path().join("run.svg");
    let json = succeeds(replay(&scenario("sensor-stuck")).arg("--json").arg("--svg").arg(&svg));
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(report["version"], 1);
    assert_eq!(report["scenario"], "sensor stuck");
    assert_eq!(report["fixed"].as_array().map(Vec::len), Some(24));
    for figure in ["p99_milliseconds", "mean_fidelity", "joules_per_inference", "highest_celsius"] {
        assert!(report["governor"][figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {report}");
    }
    let svg = std::fs::read_to_string(svg).expect("the drawing was written");
    for word in ["sensor stuck", "temperature", "power", "latency", "rung", "<polyline"] {
        assert!(svg.contains(word), "{word}");
    }
}

#[test]
fn people_get_a_drawing_and_a_table() {
    let text = succeeds(&mut replay(&scenario("mode-change")));
    for word in ["temperature, °C", "governor", "oracle", "rung 0", "of the oracle's"] {
        assert!(text.contains(word), "{word} in:\n{text}");
    }
}

#[test]
fn what_was_recorded_can_be_replayed() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("run.csv");
    let report = succeeds(replay(&scenario("hot-box")).arg("--json").arg("--record").arg(&trace));
    assert!(report.contains("hot box"), "{report}");
    let json = succeeds(replay(&scenario("hot-box")).arg("--json").arg("--trace").arg(&trace));
    let replayed: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(replayed["version"], 1);
    assert!(replayed["inferences"].as_u64().is_some_and(|inferences| inferences > 7_000), "{replayed}");
    assert!(replayed["mean_fidelity"].as_f64().is_some_and(|fidelity| fidelity > 0.9), "{replayed}");
}

#[test]
fn scenarios_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = std::fs::read_to_string(scenario("hot-box")).expect("it ships");
    let path = folder.path().join("scenario.toml");
    let refused = |text: &str, expected: &[&str]| {
        std::fs::write(&path, text).expect("a writable folder");
        is_refused(&mut replay(&path), expected);
    };
    refused("not toml", &["not understood", "scenario.toml"]);
    refused(&good.replace("rungs = 24", "rungs = 24\nsprockets = 3"), &["sprockets"]);
    refused(&good.replace("rungs = 24", "rungs = 1"), &["a ladder of 1 rungs", "2 to 32"]);
    refused(&good.replace("seconds = 7200", "seconds = nan"), &["seconds = NaN"]);
    refused(&good.replace("frames_per_second = 30", "frames_per_second = -1"), &["frames_per_second = -1"]);
    refused(&good.replace("target_celsius = 85", "target_celsius = 120"), &["temperatures out of order", "120"]);
    refused(&good.replace("miss_rate = 0.001", "miss_rate = 2.0"), &["a miss rate of 2"]);
    refused(&format!("{good}\n[[event]]\nat_seconds = 9000\n"), &["9000 s", "after the end"]);
    refused(&format!("{good}\n[board]\nidle_watts = -1.0\n"), &["idle_watts"]);
    refused(&format!("{good}\n[[event]]\nat_seconds = 5\nfault = \"gremlins\"\n"), &["gremlins"]);
    is_refused(&mut replay(Path::new("/nowhere.toml")), &["cannot read", "/nowhere.toml", "hint: "]);
    is_refused(&mut replay(folder.path()), &["cannot read"]);
}

#[test]
fn traces_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("trace.csv");
    let refused = |text: &[u8], expected: &[&str]| {
        std::fs::write(&path, text).expect("a writable folder");
        is_refused(replay(&scenario("hot-box")).arg("--trace").arg(&path), expected);
    };
    refused(b"", &["no column `seconds`"]);
    refused(b"time,rung\n1,0\n", &["no column `seconds`", "hint: "]);
    refused(b"seconds\n", &["has no lines"]);
    refused(b"seconds,rung\n1,0\n", &["line 2", "without its latency"]);
    refused(b"seconds,rung,latency_ms\n1,99,5\n", &["line 2", "rung 99", "0 to 23"]);
    refused(b"seconds,rung,latency_ms\n1,0,NaN\n", &["line 2", "a latency of NaN"]);
    refused(b"seconds,temperature_c\n2,50\n1,50\n", &["line 3", "never falls"]);
    refused(b"seconds,temperature_c\n1,warm\n", &["line 2"]);
    refused(b"seconds,power_w\n1,-3\n", &["a power of -3"]);
    refused(b"seconds,power_w\n\xff\xfe,1\n", &["line 2"]);
    is_refused(replay(&scenario("hot-box")).args(["--trace", "/nowhere.csv"]), &["cannot read the trace"]);
}

#[test]
fn a_drawing_that_cannot_be_written_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let nowhere = folder.path().join("missing/run.svg");
    is_refused(replay(&scenario("mode-change")).arg("--svg").arg(&nowhere), &["cannot write", "run.svg"]);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}
