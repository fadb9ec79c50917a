//! A bundle's integer model, opened, run, timed and calibrated by `device-run --precision int8`.

use std::path::Path;
use std::process::{Command, Output};

use headroom_device::bundle::{Bundle, BundleError};

mod random_bundle;
mod random_model;

use random_bundle::tiny;

fn program(bundle: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_device-run"));
    command.arg("--bundle").arg(bundle).args(words).output().unwrap()
}

fn device_run(bundle: &Path, more: &[&str]) -> Output {
    program(bundle, &[&["--synthetic", "2", "--embedding"], more].concat())
}

/// The JSON values that a run that must succeed prints.
fn values(output: &Output) -> Vec<serde_json::Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect()
}

/// What a run that must be refused says.
fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The embedding of each line.
fn embeddings(output: &Output) -> Vec<Vec<f64>> {
    values(output).into_iter().map(|line| serde_json::from_value(line["embedding"].clone()).unwrap()).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn every_rung_in_int8_is_near_f32() {
    let folder = tempfile::tempdir().unwrap();
    random_bundle::write_with_integer_model(folder.path(), &tiny(), 1, 3);
    for rung in ["0", "1"] {
        let [f32, int8] = ["f32", "int8"]
            .map(|precision| embeddings(&device_run(folder.path(), &["--rung", rung, "--precision", precision])));
        assert_eq!((f32.len(), int8.len()), (2, 2));
        for (f32, int8) in f32.iter().zip(&int8) {
            assert!(cosine(f32, int8) > 0.99, "rung {rung}: {}", cosine(f32, int8));
            assert_ne!(f32, int8, "another engine gives other bits");
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit_of_int8() {
    let folder = tempfile::tempdir().unwrap();
    random_bundle::write_with_integer_model(folder.path(), &tiny(), 1, 3);
    let run = |threads| embeddings(&device_run(folder.path(), &["--precision", "int8", "--threads", threads]));
    assert_eq!(run("1"), run("3"));
}

#[test]
fn a_bundle_without_an_integer_model_says_so() {
    let folder = tempfile::tempdir().unwrap();
    random_bundle::write(folder.path(), &tiny(), 1, 3);
    assert!(Bundle::open(folder.path()).unwrap().integer_model().is_none());
    for what in [&["--synthetic", "2"][..], &["--sweep"], &["--calibrate"], &["--serve", "images"]] {
        let text = refusal(&program(folder.path(), &[what, &["--precision", "int8"]].concat()));
        let words = ["the bundle has no `model.int8`", "host-prune --precision int8"];
        assert!(words.iter().all(|word| text.contains(word)), "{what:?}: {text}");
    }
}

#[test]
fn a_sweep_in_int8_times_the_rungs_that_are_stored_and_says_why_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = |more: &[&str]| {
        let words = ["--sweep", "--repetitions", "1", "--threads", "1", "--precision", "int8"];
        program(folder.path(), &[&words, more].concat())
    };
    random_bundle::write_with_integer_model(folder.path(), &tiny(), 1, 4);
    for line in values(&sweep(&["--json"])) {
        assert_eq!(line["precision"], "int8");
        assert!(line["median_ms"].as_f64().unwrap() > 0.0 && line["latency_share"].is_number(), "{line}");
        assert!(line.get("refused").is_none(), "{line}");
    }

    random_bundle::write_with_integer_neurons(folder.path(), &tiny(), 1, 4, 48);
    let swept = values(&sweep(&["--json"]));
    assert_eq!(swept.len(), 4);
    assert!(swept[0]["refused"].as_str().unwrap().contains("64 neurons"), "{}", swept[0]);
    for line in &swept {
        assert_eq!(line["median_ms"].is_number(), line.get("refused").is_none(), "{line}");
        assert!(line["latency_share"].is_null(), "the dense rung has no time: {line}");
    }
    assert!(swept[1..].iter().all(|line| line["median_ms"].is_number()));
    let text = String::from_utf8(sweep(&[]).stdout).unwrap();
    assert_eq!(text.matches("not timed: `model.int8` cannot run rung 0").count(), 1, "{text}");
    assert_eq!(text.lines().count(), 5, "{text}");

    // Other runs of a rung that is stored, and of one that is not.
    assert!(device_run(folder.path(), &["--precision", "int8", "--rung", "1"]).status.success());
    for what in [&["--synthetic", "1"][..], &["--calibrate"]] {
        let text = refusal(&program(folder.path(), &[what, &["--precision", "int8"]].concat()));
        assert!(text.contains("cannot run rung 0") && text.contains("--sweep --precision int8"), "{text}");
    }
    random_bundle::write_with_integer_neurons(folder.path(), &tiny(), 1, 4, 0);
    assert_eq!(values(&sweep(&["--json"])).iter().filter(|line| line["median_ms"].is_number()).count(), 1);
}

#[test]
fn calibrations_in_f32_and_int8_stand_beside_each_other() {
    let home = tempfile::tempdir().unwrap();
    let (bundle, root) = (home.path().join("bundle"), home.path().join("root"));
    std::fs::create_dir_all(root.join("sys")).unwrap();
    random_bundle::write_with_integer_model(&bundle, &tiny(), 1, 4);
    let run = |words: &[&str]| {
        let root = root.to_str().unwrap();
        program(&bundle, &[words, &["--root", root, "--threads", "1", "--json"]].concat())
    };
    let calibrate =
        |precision: &str| values(&run(&["--calibrate", "--repetitions", "3", "--precision", precision])).remove(0);
    let in_f32 = calibrate("f32");
    assert!(in_f32["profile"]["key"].get("precision").is_none(), "a program that knows no int8 reads it: {in_f32}");
    let text = refusal(&run(&["--predict", "70%", "--precision", "int8"]));
    assert!(text.contains("another precision (f32, here int8)") && text.contains("--calibrate"), "{text}");

    let in_int8 = calibrate("int8");
    assert_eq!(in_int8["profile"]["key"]["precision"], "int8");
    let file = std::fs::read_to_string(home.path().join("bundle.measured.toml")).unwrap();
    assert_eq!((file.matches("[[profile]]").count(), file.matches("precision = \"int8\"").count()), (2, 1), "{file}");
    for (precision, report) in [("f32", &in_f32), ("int8", &in_int8)] {
        // At the MACs of a rung, what was measured of it.
        let rung = &report["profile"]["rung"][1];
        let macs = rung["macs"].to_string();
        let predicted = values(&run(&["--predict", &macs, "--precision", precision])).remove(0);
        let measured = rung["latency_nanoseconds"].as_f64().unwrap() / 1e6;
        assert!((predicted["latency_ms"].as_f64().unwrap() - measured).abs() < 1e-6, "{precision}: {predicted}");
        let swept = run(&["--sweep", "--repetitions", "1", "--precision", precision]);
        assert!(String::from_utf8_lossy(&swept.stderr).contains("costs as measured"));
        assert!((values(&swept)[1]["known_ms"].as_f64().unwrap() - measured).abs() < 1e-6);
    }
}

#[test]
fn an_integer_model_of_other_weights_is_refused() {
    let [one, other] = [1, 2].map(|seed| {
        let folder = tempfile::tempdir().unwrap();
        random_bundle::write_with_integer_model(folder.path(), &tiny(), seed, 3);
        folder
    });
    random_bundle::replace_part(one.path(), "model.int8", &std::fs::read(other.path().join("model.int8")).unwrap());
    assert!(matches!(Bundle::open(one.path()), Err(BundleError::OtherIntegerModel)));
    random_bundle::replace_part(one.path(), "model.int8", b"HEADRINT");
    assert!(matches!(Bundle::open(one.path()), Err(BundleError::IntegerModel(_))));
}
