//! `host-check` as a program.

use std::fs;
use std::path::Path;
use std::process::Command;

use headroom_host::demo;
use headroom_tests::{Reference, ended, is_refused, program, succeeds};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;
use tempfile::tempdir;

fn quick(fixtures: &Path) -> Command {
    let mut command = program("host-check");
    command.args(["--device", "cpu", "--quick", "--fixtures"]).arg(fixtures);
    command
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The checks of a stage.
fn of<'a>(report: &'a Value, stage: &str) -> Vec<&'a Value> {
    report["checks"].as_array().unwrap().iter().filter(|check| check["stage"] == stage).collect()
}

#[test]
fn everything_passes_on_this_machine_and_is_in_the_report() {
    let home = tempdir().unwrap();
    let fixtures = Reference::Fixtures.folder("everything_passes_on_this_machine_and_is_in_the_report");
    let nothing = home.path().join("none");
    let path = home.path().join("check.json");
    let text = succeeds(quick(fixtures.as_deref().unwrap_or(&nothing)).arg("--json").arg(&path));
    assert!(text.contains("checks passed"), "{text}");

    let report = json(&path);
    assert_eq!((&report["version"], &report["passed"], &report["quick"]), (&2.into(), &true.into(), &true.into()));
    assert_eq!(report["seed"], 0);
    assert_eq!(report["device"]["device"], "cpu");
    assert_eq!(report["device"]["driver"], Value::Null);
    assert!(!report["machine"]["name"].as_str().unwrap().is_empty());
    // 2026 has begun when this is read.
    assert!(report["unix_seconds"].as_u64().unwrap() > 1_767_225_600);
    let stages: Vec<&str> =
        report["stages"].as_array().unwrap().iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    for stage in
        ["parity", "prune", "prune: importance", "prune: tokens", "prune: compensation", "load", "elastic", "switch"]
    {
        assert!(stages.contains(&stage), "{stages:?}");
    }
    let rungs = report["rungs"].as_array().unwrap();
    assert_eq!(rungs.len(), 5);
    for time in rungs.iter().flat_map(|rung| [&rung["median_ms"], &rung["after_switch_ms"]]) {
        assert!(time.as_f64().unwrap() > 0.0, "{report}");
    }
    for stage in ["parity", "prune", "elastic", "switch"] {
        let checks = of(&report, stage);
        assert!(!checks.is_empty() && checks.iter().all(|check| check["passed"] == true), "{stage}: {checks:?}");
    }
    let compared = of(&report, "parity").len();
    match fixtures {
        Some(_) => assert!(compared > 70, "{compared}"),
        None => {
            assert_eq!(compared, 1);
            assert!(text.contains(&format!("not checked: golden cases, of which `{}` has none", nothing.display())));
        }
    }
}

#[test]
fn a_model_that_computes_something_else_fails_with_which_and_by_how_much() {
    let home = tempdir().unwrap();
    let case = home.path().join("cases/demo");
    fs::create_dir_all(&case).unwrap();
    fs::write(case.join("model.safetensors"), demo::WEIGHTS).unwrap();
    fs::write(case.join("config.json"), demo::CONFIG).unwrap();
    // Nothing that is computed of a grey image is 1000 everywhere.
    let reference = [("pixel_values", vec![1, 3, 32, 32], 0f32), ("pooled", vec![1, 128], 1000.0)];
    let tensors: Vec<(&str, Vec<usize>, Vec<u8>)> = reference
        .into_iter()
        .map(|(name, shape, value)| {
            let values: usize = shape.iter().product();
            (name, shape, value.to_le_bytes().repeat(values))
        })
        .collect();
    let views =
        tensors.iter().map(|(name, shape, bytes)| (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    fs::write(case.join("io.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();

    let path = home.path().join("check.json");
    let ended = ended(quick(case.parent().unwrap()).arg("--json").arg(&path));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stdout.contains("FAILED parity, demo, candle with PyTorch: relative difference"), "{}", ended.stdout);
    assert!(ended.stdout.contains("at most 1e-4"), "{}", ended.stdout);
    assert!(ended.stdout.contains("2 of ") && ended.stdout.contains(" checks FAILED"), "{}", ended.stdout);
    let report = json(&path);
    assert_eq!(report["passed"], false);
    let failed: Vec<&Value> =
        report["checks"].as_array().unwrap().iter().filter(|check| check["passed"] == false).collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(failed.iter().all(|check| check["of"] == "demo" && check["found"].as_f64().unwrap() > 0.5), "{failed:?}");
}

#[test]
fn a_broken_case_fails_and_one_without_results_is_left_out() {
    let home = tempdir().unwrap();
    let write = |case: &str, weights: &[u8]| {
        let case = home.path().join(case);
        fs::create_dir_all(&case).unwrap();
        fs::write(case.join("model.safetensors"), weights).unwrap();
        fs::write(case.join("config.json"), demo::CONFIG).unwrap();
        let pixels = vec![0; 3 * 32 * 32 * 4];
        let view = TensorView::new(Dtype::F32, vec![1, 3, 32, 32], &pixels).unwrap();
        fs::write(case.join("io.safetensors"), safetensors::serialize([("pixel_values", view)], None).unwrap())
            .unwrap();
    };
    write("broken", b"not safetensors");
    write("silent", demo::WEIGHTS);
    let ended = ended(&mut quick(home.path()));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let text = ended.stdout;
    assert!(text.contains("FAILED parity, broken, golden case with PyTorch: the model cannot be used"), "{text}");
    assert!(text.contains("not checked: silent, of which `io.safetensors` has no result"), "{text}");
    assert!(text.contains("1 of ") && text.contains(" checks FAILED"), "{text}");
}

#[test]
fn a_model_that_cannot_merge_tokens_is_checked_without_and_the_report_says_so() {
    let Some(fixtures) = Reference::Fixtures.folder("a_model_that_cannot_merge_tokens_is_checked_without") else {
        return;
    };
    let home = tempdir().unwrap();
    let text = succeeds(quick(&home.path().join("none")).arg("--model").arg(fixtures.join("hf_dinov3")));
    assert!(text.contains("not checked: merging of tokens: tokens of a model with rotary positions"), "{text}");
    assert!(text.contains("checks passed"), "{text}");
}

#[test]
fn a_report_that_cannot_be_written_is_printed_nevertheless() {
    let home = tempdir().unwrap();
    let path = home.path().join("no such folder/check.json");
    let ended = ended(quick(&home.path().join("none")).arg("--json").arg(&path));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stdout.contains("checks passed"), "{}", ended.stdout);
    assert!(ended.stderr.contains("no such folder"), "{}", ended.stderr);
}

#[test]
fn a_device_that_is_not_there_is_refused_with_what_to_do() {
    let mut cuda = program("host-check");
    cuda.args(["--device", "cuda:7", "--quick"]);
    is_refused(&mut cuda, &["the device cannot be used", "no CUDA support", "hint", "--features cuda", "--device cpu"]);
    let unknown = ended(program("host-check").args(["--device", "tpu"]));
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("unknown device `tpu`, expected auto, cpu, cuda or cuda:N"), "{}", unknown.stderr);
}
