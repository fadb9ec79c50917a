//! `device-run --probe` as a program.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use headroom_tests::trees::{BOARDS, FakeTree};
use headroom_tests::{is_refused, program, small_job, succeeds};
use serde_json::Value;
use tempfile::tempdir;

fn probe(tree: &FakeTree) -> Command {
    let mut command = program("device-run");
    command.args(["--probe", "--root"]).arg(tree.root());
    command
}

fn report(command: &mut Command) -> Value {
    serde_json::from_str(&succeeds(command.arg("--json"))).expect("one JSON value")
}

/// The rows of `found` of a kind.
fn found<'a>(report: &'a Value, kind: &str) -> Vec<&'a Value> {
    report["found"].as_array().unwrap().iter().filter(|row| row["kind"] == kind).collect()
}

fn reading<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["reading"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap()
}

#[test]
fn every_board_is_probed_without_a_bundle() {
    for board in BOARDS {
        let tree = FakeTree::of(board);
        let report = report(&mut probe(&tree));
        assert_eq!(report["version"], 1);
        assert_eq!(report["profile"], Value::Null);
        assert!(!report["found"].as_array().unwrap().is_empty(), "{board}");
    }
    let text = succeeds(&mut probe(&FakeTree::of("raspberry-pi")));
    for expected in ["without a board profile", "48.686 °C", "shuts down at 110 °C", "not found", "no such folder"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn a_bundle_brings_the_profile() {
    let home = tempdir().unwrap();
    let bundle = home.path().join("bundle");
    let _ = succeeds(&mut small_job(&bundle));
    let tree = FakeTree::of("jetson-agx-orin");
    let mut command = probe(&tree);
    command.arg("--bundle").arg(&bundle);
    let report = report(&mut command);
    assert_eq!(report["profile"], "jetson-orin");
    assert_eq!(report["power_mode"], "MODE_30W (id 2)");
    assert_eq!(
        (&reading(&report, "power")["value"], &reading(&report, "power")["state"]),
        (&14.131.into(), &"measured".into())
    );
    assert_eq!(reading(&report, "temperature")["value"], 52.093);
    let zones = found(&report, "thermal zone");
    assert_eq!(zones.len(), 11);
    assert_eq!(zones[0]["limits"], "temperature: cuts clocks at 99 °C, shuts down at 104.5 °C");
    let gaps = report["missing"].as_array().unwrap();
    assert!(gaps.iter().all(|gap| gap["kind"] != "thermal zone" && gap["kind"] != "power rail"), "{gaps:?}");

    // On another board, what its profile names is listed as missing.
    let nano = FakeTree::of("jetson-orin-nano-r36");
    let mut command = probe(&nano);
    let text = succeeds(command.arg("--bundle").arg(&bundle));
    assert!(text.contains("VDD_GPU_SOC") && text.contains("the profile has it, this machine does not"), "{text}");
}

/// Root may read everything, so the program runs as another user: the one
/// called nobody, from a copy that this user may execute.
#[test]
fn a_node_without_permission_is_missing_for_that_reason() {
    const NOBODY: u32 = 65_534;
    let tree = FakeTree::of("x86-laptop");
    let energy = tree.root().join("sys/class/powercap/intel-rapl:0/energy_uj");
    fs::set_permissions(&energy, fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(tree.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("device-run");
    // By another program: were it open for writing here, one that another test starts meanwhile would inherit that, and
    // then it could not be run.
    assert!(Command::new("cp").arg(program("device-run").get_program()).arg(&copy).status().unwrap().success());
    let mut command = Command::new(&copy);
    command.args(["--probe", "--root"]).arg(tree.root()).current_dir("/");
    // An ordinary user is refused already.
    if fs::read(&energy).is_ok() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let report = report(&mut command);
    let counters = found(&report, "energy counter");
    assert_eq!((&counters[0]["name"], &counters[0]["reason"]), (&"package-0".into(), &"no permission".into()));
    assert_eq!(counters[1]["reason"], Value::Null, "the others are read");
    assert_eq!(reading(&report, "power")["value"], 14.25, "the battery stands in");
}

#[test]
fn a_root_without_sys_is_refused() {
    let home = tempdir().unwrap();
    let mut command = program("device-run");
    is_refused(command.args(["--probe", "--root"]).arg(home.path()), &["has no folder `sys`", "--root"]);
}

#[test]
fn this_machine_can_be_probed() {
    let report = report(program("device-run").arg("--probe"));
    assert_eq!(report["root"], "/");
}
