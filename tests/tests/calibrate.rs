//! `device-run --calibrate`, as users run it, on the files of a real board: what is kept, and when it is used.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use headroom_tests::{ended, is_refused, program, small_job, succeeds};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

#[path = "../trees/mod.rs"]
mod trees;

use trees::FakeTree;

/// A bundle of five rungs for the board of the trees.
fn bundle() -> (TempDir, PathBuf) {
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let _ = succeeds(small_job(&out).args(["--target", "jetson-orin-nano"]));
    (home, out)
}

fn device_run(bundle: &Path, tree: &FakeTree, words: &[&str]) -> Command {
    let mut command = program("device-run");
    command.arg("--bundle").arg(bundle).arg("--root").arg(tree.root()).args(["--threads", "1"]).args(words);
    command
}

fn calibrate(bundle: &Path, tree: &FakeTree) -> Command {
    device_run(bundle, tree, &["--calibrate", "--repetitions", "3", "--power-seconds", "0.02", "--json"])
}

fn sweep(bundle: &Path, tree: &FakeTree) -> (Vec<Value>, String) {
    let swept = ended(&mut device_run(bundle, tree, &["--sweep", "--repetitions", "1", "--json"]));
    assert_eq!(swept.code, Some(0), "{}", swept.stderr);
    (swept.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), swept.stderr)
}

fn measured_file(bundle: &Path) -> PathBuf {
    bundle.with_file_name("bundle.measured.toml")
}

#[test]
fn what_was_measured_is_kept_beside_the_bundle_and_used_in_the_same_state_only() {
    let (_home, bundle) = bundle();
    let tree = FakeTree::of("jetson-orin-nano-r36");
    assert!(sweep(&bundle, &tree).0.iter().all(|line| line["known_origin"] == "estimated"));

    let report: Value = serde_json::from_str(&succeeds(&mut calibrate(&bundle, &tree))).unwrap();
    let rungs = report["profile"]["rung"].as_array().unwrap();
    assert_eq!(rungs.len(), 5);
    // The rails of the tree do not move, so that every rung draws the same power.
    let watts = |rung: &Value| {
        rung["energy_microjoules"].as_f64().unwrap() * 1e3 / rung["latency_nanoseconds"].as_f64().unwrap()
    };
    for rung in rungs {
        assert!((watts(rung) / watts(&rungs[0]) - 1.0).abs() < 0.05, "{rung}");
        assert!((1.0..60.0).contains(&watts(rung)), "{} W", watts(rung));
    }
    assert!(report["profile"]["key"]["power_mode"].is_string(), "{report}");
    assert!(report["profile"]["key"]["gpu_tpcs"].is_number(), "{report}");

    let (lines, said) = sweep(&bundle, &tree);
    assert!(said.contains("as measured"), "{said}");
    for (line, rung) in lines.iter().zip(rungs) {
        assert_eq!(line["known_origin"], "measured");
        let known = line["known_ms"].as_f64().unwrap() * 1e6;
        assert!((known - rung["latency_nanoseconds"].as_f64().unwrap()).abs() < 1.0);
    }
    // Another power mode is another machine.
    tree.write("var/lib/nvpmodel/status", "pmode:0007\n");
    let (lines, said) = sweep(&bundle, &tree);
    assert!(said.contains("another power mode") && said.contains("not used"), "{said}");
    assert!(lines.iter().all(|line| line["known_origin"] == "estimated"));
    // It gets a profile of its own beside the first.
    let _ = succeeds(&mut calibrate(&bundle, &tree));
    let text = fs::read_to_string(measured_file(&bundle)).unwrap();
    assert_eq!(text.matches("[[profile]]").count(), 2, "{text}");
    // The bundle itself is as it was.
    let _ = succeeds(program("device-run").args(["--synthetic", "1", "--bundle"]).arg(&bundle));
}

#[test]
fn sizes_between_rungs_are_predicted_with_their_error() {
    let (_home, bundle) = bundle();
    let tree = FakeTree::of("jetson-orin-nano-r36");
    let predict = |budget: &str| device_run(&bundle, &tree, &["--predict", budget, "--json"]);
    is_refused(&mut predict("70%"), &["nothing was measured", "--calibrate"]);
    let _ = succeeds(&mut calibrate(&bundle, &tree));
    let report: Value = serde_json::from_str(&succeeds(&mut predict("70%"))).unwrap();
    assert!(report["steps"].as_u64().unwrap() > 0);
    for key in ["latency_ms", "energy_mj"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{report}");
    }
    assert_eq!(report["latency_error"].as_array().unwrap().len(), 2);
    is_refused(&mut predict("0.1%"), &["not on the ladder"]);
}

#[test]
fn a_damaged_or_foreign_file_is_refused_and_left_as_it_is() {
    let (_home, bundle) = bundle();
    let tree = FakeTree::of("x86-laptop");
    let _ = succeeds(&mut calibrate(&bundle, &tree));
    let file = measured_file(&bundle);
    let whole = fs::read_to_string(&file).unwrap();
    for (from, to, words) in [
        ("version = 1", "version = 9", ["version 9", "version 1"]),
        ("latency_nanoseconds = ", "latency_nanoseconds = nan#", ["latency_nanoseconds", "--calibrate"]),
        ("origin = \"measured\"", "origin = \"hoped\"", ["hoped", "measured"]),
        ("version = 1", "\u{1}", ["measured profiles", "--calibrate"]),
    ] {
        let damaged = whole.replacen(from, to, 1);
        assert_ne!(damaged, whole, "{from}");
        fs::write(&file, &damaged).unwrap();
        is_refused(&mut device_run(&bundle, &tree, &["--sweep"]), &words);
        is_refused(&mut calibrate(&bundle, &tree), &words);
        assert_eq!(fs::read_to_string(&file).unwrap(), damaged);
    }
}

#[test]
fn a_calibration_that_is_cut_off_or_cannot_be_written_leaves_the_file_as_it_was() {
    let (home, bundle) = bundle();
    let tree = FakeTree::empty();
    fs::create_dir(tree.root().join("sys")).unwrap();
    let _ = succeeds(&mut calibrate(&bundle, &tree));
    let before = fs::read(measured_file(&bundle)).unwrap();
    let files = || fs::read_dir(home.path()).unwrap().count();
    let count = files();

    let mut child = device_run(&bundle, &tree, &["--calibrate", "--repetitions", "100000"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "it ended before it was killed");
    assert_eq!(fs::read(measured_file(&bundle)).unwrap(), before);

    // A limit on file sizes fails writes half-way, as a full disk does.
    let job = calibrate(&bundle, &tree);
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "bash"]);
    limited.arg(job.get_program()).args(job.get_args());
    is_refused(&mut limited, &["bundle.measured.toml", "--profile"]);
    assert_eq!(fs::read(measured_file(&bundle)).unwrap(), before);
    assert_eq!(files(), count, "something was left behind");

    let elsewhere = home.path().join("elsewhere.toml");
    let _ = succeeds(calibrate(&bundle, &tree).arg("--profile").arg(&elsewhere));
    assert!(elsewhere.is_file());
}
