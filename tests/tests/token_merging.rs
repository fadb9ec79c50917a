//! `host-prune --tokens`: rungs that merge similar tokens, from the job to the device and the judge.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use headroom_device::images::RgbImage;
use headroom_tests::{Reference, is_refused, program, small_job, succeeds};
use serde_json::Value;
use tempfile::tempdir;

fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

/// The ladder of a job's report.
fn ladder(job: &mut Command) -> Vec<Value> {
    let report: Value = serde_json::from_str(&succeeds(job.arg("--json"))).unwrap();
    report["ladder"].as_array().unwrap().clone()
}

fn merged(rung: &Value) -> u64 {
    numbers(&rung["token_schedule"]).iter().sum()
}

#[test]
fn rungs_merge_tokens_and_run_on_the_device() {
    let home = tempdir().unwrap();
    let query = home.path().join("query");
    for (class, shade) in [("dark", 40), ("light", 200)] {
        fs::create_dir_all(query.join(class)).unwrap();
        for number in 0..3 {
            let image = RgbImage::from_fn(32, 32, |x, y| [shade, (x * 7 + number) as u8, (y * 7) as u8].into());
            image.save(query.join(class).join(format!("{number}.png"))).unwrap();
        }
    }
    for (tokens, alone) in [("on", false), ("only", true)] {
        let out = home.path().join(tokens);
        let rungs = ladder(small_job(&out).args(["--tokens", tokens]));
        assert!(rungs.len() > 1, "{tokens}");
        assert_eq!(merged(&rungs[0]), 0, "the dense rung is the model as it is");
        assert!(rungs.iter().any(|rung| merged(rung) > 0), "{tokens}: {rungs:?}");
        for pair in rungs.windows(2) {
            assert!(pair[1]["macs"].as_u64() < pair[0]["macs"].as_u64(), "{tokens}: costs fall");
            assert!(pair[1]["neurons"].as_u64() <= pair[0]["neurons"].as_u64(), "{tokens}: a rung is a prefix");
            assert!(!alone || pair[1]["neurons"] == pair[0]["neurons"]);
        }
        for rung in 0..rungs.len() {
            let run = ["--synthetic", "2", "--rung", &rung.to_string()];
            let lines = succeeds(program("device-run").arg("--bundle").arg(&out).args(run));
            assert_eq!(lines.lines().count(), 2, "{tokens} at rung {rung}");
        }

        let eval = |words: &[&str]| {
            succeeds(program("host-eval").arg(&out).arg("--query").arg(&query).arg("--quiet").args(words))
        };
        let judged: Value = serde_json::from_str(&eval(&["--json"])).unwrap();
        let schedules = |rungs: &[Value]| rungs.iter().map(|rung| numbers(&rung["token_schedule"])).collect::<Vec<_>>();
        assert_eq!(schedules(judged["bundles"][0]["rungs"].as_array().unwrap()), schedules(&rungs));
        assert!(eval(&[]).contains("merged"));
    }
}

/// In int8 a rung is as faithful as in f32, merged tokens or not.
#[test]
fn rungs_merge_tokens_in_integers_too() {
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let rungs = ladder(small_job(&out).args(["--tokens", "only", "--precision", "int8"]));
    assert!(rungs.iter().any(|rung| merged(rung) > 0), "{rungs:?}");
    for (number, rung) in rungs.iter().enumerate() {
        assert!(rung["fidelity_to_f32"].as_f64().unwrap() > 0.98, "{rung}");
        let embedding = |precision: &str| -> Vec<f64> {
            let run = ["--precision", precision, "--synthetic", "1", "--embedding", "--rung", &number.to_string()];
            let line = succeeds(program("device-run").arg("--bundle").arg(&out).args(run));
            let line: Value = serde_json::from_str(&line).unwrap();
            line["embedding"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
        };
        let (found, expected) = (embedding("int8"), embedding("f32"));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine = dot(&found, &expected) / (dot(&found, &found) * dot(&expected, &expected)).sqrt();
        assert!(cosine > 0.98, "rung {number}: {cosine}");
    }
}

#[test]
fn a_model_that_cannot_merge_is_refused_at_once() {
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let job = || {
        let mut job = small_job(&out);
        job.args(["--tokens", "on"]);
        job
    };
    let _ = succeeds(&mut job());
    let test = "a_model_that_cannot_merge_is_refused_at_once";
    let Some(fixtures) = Reference::Fixtures.folder(test) else { return };
    let rotary = fixtures.join("hf_dinov3");
    is_refused(job().arg("--force").arg("--model").arg(rotary), &["rotary", "--tokens"]);
}

#[test]
fn an_interrupted_search_for_tokens_leaves_a_bundle_and_can_be_resumed() {
    let home = tempdir().unwrap();
    let (whole, cut) = (home.path().join("whole"), home.path().join("cut"));
    let job = |out: &Path| {
        let mut job = program("host-prune");
        job.args(["--target", "jetson-orin", "--tokens", "on", "--images-limit", "12", "--evaluations", "3"]);
        job.args(["--rungs", "8", "--out"]).arg(out);
        job
    };
    let _ = succeeds(&mut job(&whole));

    let mut child = job(&cut).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("tokens")), "the job says when it comes to tokens");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let last: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{last:?}");
    let run = ["--synthetic", "1", "--rung", "6"];
    let _ = succeeds(program("device-run").arg("--bundle").arg(&cut).args(run));

    let map = |bundle: &Path| fs::read(bundle.join("structure.map")).unwrap();
    assert_ne!(map(&whole), map(&cut));
    let _ = succeeds(job(&cut).arg("--resume"));
    assert_eq!(map(&whole), map(&cut));
}
