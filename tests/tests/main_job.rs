//! The main job, as users run it: prune, then run at any size.

use std::fs;
use std::path::Path;
use std::process::Command;

use headroom_tests::{Reference, program, repository, small_job, succeeds};
use serde_json::Value;
use tempfile::tempdir;

fn device_run(bundle: &Path) -> Command {
    let mut command = program("device-run");
    command.arg("--bundle").arg(bundle);
    command
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_bundle_runs_at_every_rung() {
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let report: Value = serde_json::from_str(&succeeds(small_job(&out).arg("--json"))).unwrap();
    assert_eq!(report["version"], 1);
    let ladder = report["ladder"].as_array().unwrap();
    assert_eq!(ladder.len(), 5);
    assert_eq!(ladder[0]["macs_share"], 1.0);
    assert!(ladder[0]["fidelity"].as_f64().unwrap() > 0.999_999);
    for pair in ladder.windows(2) {
        assert!(pair[0]["macs"].as_u64() > pair[1]["macs"].as_u64());
        assert!(pair[0]["predicted_ms"].as_f64() >= pair[1]["predicted_ms"].as_f64());
    }
    for rung in 0..5 {
        let lines = json_lines(&succeeds(device_run(&out).args(["--synthetic", "2", "--rung", &rung.to_string()])));
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["rung"], rung);
        let classes = lines[0]["classes"].as_array().unwrap();
        assert_eq!(classes.len(), 5);
        assert!(classes[0]["label"].is_string());
    }
    let half = json_lines(&succeeds(device_run(&out).args(["--synthetic", "1", "--macs", "50%", "--embedding"])));
    assert!(half[0]["macs"].as_u64().unwrap() * 2 <= ladder[0]["macs"].as_u64().unwrap());
    assert_eq!(half[0]["embedding"].as_array().unwrap().len(), 128);
    let sweep = json_lines(&succeeds(device_run(&out).args(["--sweep", "--repetitions", "2", "--json"])));
    assert_eq!(sweep.len(), 5);
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let home = tempdir().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| home.path().join(name));
    let _ = succeeds(&mut small_job(&a));
    // The number of threads must not matter either.
    let _ = succeeds(small_job(&b).env("RAYON_NUM_THREADS", "1"));
    let _ = succeeds(small_job(&c).args(["--seed", "1"]));
    assert_eq!(files(&a), files(&b));
    assert_ne!(files(&a), files(&c));
}

#[test]
fn an_interrupted_job_resumes_to_the_same_bytes() {
    let home = tempdir().unwrap();
    let (whole, cut) = (home.path().join("whole"), home.path().join("cut"));
    let job = |out: &Path| {
        let mut command = small_job(out);
        command.args(["--evaluations", "400", "--images-limit", "8"]);
        command
    };
    let _ = succeeds(&mut job(&whole));

    let mut child = job(&cut).spawn().unwrap();
    let checkpoint = home.path().join("cut.checkpoint");
    while !checkpoint.join("search.json").exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success();
    let code = child.wait().unwrap().code();
    assert!(interrupted, "the job ended before it could be interrupted");
    assert_eq!(code, Some(130), "an interrupted job says so with its exit code");
    // The best so far is a bundle that runs.
    let _ = succeeds(device_run(&cut).args(["--synthetic", "1"]));
    assert_ne!(files(&whole), files(&cut));

    let _ = succeeds(job(&cut).arg("--resume"));
    assert_eq!(files(&whole), files(&cut));
    assert!(!checkpoint.exists(), "a finished job needs no checkpoint");
}

#[test]
fn images_are_classified_as_the_model_was_trained_to() {
    let test = "images_are_classified_as_the_model_was_trained_to";
    let Some(data) = Reference::Data.folder(test) else { return };
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let mut job = small_job(&out);
    let _ = succeeds(job.args(["--images-limit", "32"]).arg("--images").arg(data.join("cifar10/calibration")));
    let mut right = 0;
    let mut all = 0;
    for class in ["airplane", "frog", "ship"] {
        let lines = json_lines(&succeeds(device_run(&out).arg(data.join("cifar10/query").join(class))));
        all += lines.len();
        right += lines.iter().filter(|line| line["classes"][0]["label"] == class).count();
    }
    // The model's card says 79 % over all classes.
    assert!(all >= 100, "only {all} images");
    assert!(right * 100 >= all * 70, "{right} of {all} right");
}

#[test]
fn the_programs_explain_themselves() {
    for (name, words) in [("host-prune", "--sparsities"), ("device-run", "--sweep")] {
        assert!(succeeds(program(name).arg("--help")).contains(words));
        assert!(succeeds(program(name).arg("--version")).contains(env!("CARGO_PKG_VERSION")));
    }
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    assert!(readme.contains("cargo run --release --bin host-prune -- --target jetson-orin"));
}
