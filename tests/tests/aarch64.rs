//! The `device-run` that goes to aarch64 boards, under qemu: it computes and finds what the one of this machine does.

use std::path::Path;
use std::process::Command;

use headroom_tests::trees::FakeTree;
use headroom_tests::{program, relative_difference, repository, say_skipped, small_job, succeeds};
use serde_json::Value;
use tempfile::tempdir;

/// What the build and the run need beside Debian's compiler.
const TOOLS: [&str; 4] = ["/usr/bin/cargo", "/usr/bin/rustc", "aarch64-linux-gnu-gcc", "qemu-aarch64"];
/// Where Debian's compiler has the source of its standard library.
const STD_SOURCE: &str = "lib/rustlib/src/rust/library/std";

/// Why nothing can be built or run here.
fn missing() -> Option<String> {
    if let Some(tool) = TOOLS.iter().find(|tool| Command::new(tool).arg("--version").output().is_err()) {
        return Some(format!("no {tool}"));
    }
    let sysroot = succeeds(Command::new("/usr/bin/rustc").args(["--print", "sysroot"]));
    let source = Path::new(sysroot.trim()).join(STD_SOURCE);
    (!source.is_dir()).then(|| format!("no {}", source.display()))
}

fn json(command: &mut Command) -> Value {
    serde_json::from_str(&succeeds(command)).expect("one JSON value")
}

fn embedding(result: &Value) -> Vec<f32> {
    result["embedding"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

#[test]
fn the_program_for_aarch64_equals_the_one_for_this_machine() {
    if let Some(why) = missing() {
        say_skipped(&format!("the_program_for_aarch64_equals_the_one_for_this_machine: {why}"));
        return;
    }
    let mut build = Command::new(repository().join("device/build-aarch64"));
    // The variables that the cargo of this test set belong to the other compiler.
    for name in ["RUSTUP_TOOLCHAIN", "RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "LD_LIBRARY_PATH"] {
        build.env_remove(name);
    }
    let path = succeeds(&mut build);
    let built = repository().join(path.trim());
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
