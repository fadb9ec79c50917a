//! A bundle's integer model, opened and run by `device-run --precision int8`.

use std::path::Path;
use std::process::{Command, Output};

use headroom_device::bundle::{Bundle, BundleError};

mod random_bundle;
mod random_model;

use random_bundle::tiny;

fn device_run(bundle: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_device-run"));
    command.arg("--bundle").arg(bundle).args(["--synthetic", "2", "--embedding"]).args(more);
    command.output().unwrap()
}

/// The embedding of each line.
fn embeddings(output: &Output) -> Vec<Vec<f64>> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.map(|line| serde_json::from_value(line["embedding"].clone()).unwrap()).collect()
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
    let output = device_run(folder.path(), &["--precision", "int8"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(text.contains("the bundle has no `model.int8`") && text.contains("host-prune --precision int8"), "{text}");
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
