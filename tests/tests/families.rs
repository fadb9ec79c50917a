//! Every golden fixture as a user would use it: described, pruned and run, with
//! nothing to configure.

use std::path::Path;

use headroom_tests::{case_name, ended, fixture_cases, is_unsupported, program, say_skipped, succeeds};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in:\n{text}"))
}

fn meta(case: &Path) -> Value {
    json(&std::fs::read_to_string(case.join("META.json")).unwrap())
}

/// Runs `--describe --json`; `None`, with a visible line, for a family that is not supported.
fn described(case: &Path) -> Option<Value> {
    let ended = ended(program("host-prune").arg("--describe").arg(case).arg("--json"));
    if ended.code == Some(0) {
        return Some(json(&ended.stdout));
    }
    assert!(is_unsupported(&ended), "{}:\n{}", case_name(case), ended.stderr);
    say_skipped(&format!("{}: not a supported family", case_name(case)));
    None
}

#[test]
fn a_description_says_what_the_fixture_is() {
    for case in fixture_cases("a_description_says_what_the_fixture_is") {
        let Some(report) = described(&case) else { continue };
        let (name, meta) = (case_name(&case), meta(&case));
        assert_eq!(report["version"], 1);
        let (grid, size) = (&meta["grid"], &meta["image_size"]);
        for (ours, theirs) in [
            ("embed_dim", &meta["embed_dim"]),
            ("blocks", &meta["depth"]),
            ("heads", &meta["num_heads"]),
            ("head_dim", &meta["head_dim"]),
            ("neurons", &meta["mlp_hidden"]),
            ("layer_scale", &meta["layer_scale"]),
        ] {
            assert_eq!(&report[ours], theirs, "{name}: {ours}");
        }
        assert_eq!(report["input"]["patch"], meta["patch_size"], "{name}");
        assert_eq!(report["input"]["height"], *size, "{name}");
        assert_eq!(report["tokens"]["all"], meta["num_tokens"], "{name}");
        let patches = grid[0].as_u64().unwrap() * grid[1].as_u64().unwrap();
        assert_eq!(report["tokens"]["patches"], patches, "{name}");
        let expected_activation = meta["activation"].as_str().unwrap().replace('_', "-");
        assert_eq!(report["activation"], expected_activation, "{name}");
        let gated = meta["mlp_layout"].as_str().unwrap().starts_with("glu");
        assert_eq!(report["mlp"], if gated { "gated" } else { "plain" }, "{name}");

        // Everything is either prunable or stays whole, and nothing is counted twice.
        let parameters = report["parameters"].as_u64().unwrap();
        let whole: u64 =
            report["whole"].as_array().unwrap().iter().map(|part| part["parameters"].as_u64().unwrap()).sum();
        assert_eq!(report["prunable"]["parameters"].as_u64().unwrap() + whole, parameters, "{name}");
        let idle: Vec<&str> = meta["tensors_without_effect_on_the_outputs"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|tensor| tensor.as_str().or_else(|| tensor["name"].as_str()))
            // The image path's key bias is used, though softmax ignores it.
            .filter(|tensor| {
                tensor.contains("text_model") || !["key.bias", "k_proj.bias"].iter().any(|end| tensor.ends_with(end))
            })
            .collect();
        let used = meta["checkpoint_tensors"].as_object().unwrap().iter();
        let used = used.filter(|(tensor, _)| !idle.contains(&tensor.as_str()));
        let stored: u64 = used
            .map(|(_, tensor)| {
                tensor["shape"].as_array().unwrap().iter().map(|size| size.as_u64().unwrap()).product::<u64>()
            })
            .sum();
        assert_eq!(parameters, stored, "{name}: parameters");

        let two_towers = meta["checkpoint_tensors"].as_object().unwrap().keys().any(|key| key.contains("text_model"));
        let says_so = report["notes"].as_array().unwrap().iter().any(|note| {
            let note = note.as_str().unwrap();
            note.contains("two towers") && note.contains("vision tower is used")
        });
        assert_eq!(two_towers, says_so, "{name}: {}", report["notes"]);
    }
}

#[test]
fn every_fixture_is_pruned_and_runs_at_every_rung() {
    for case in fixture_cases("every_fixture_is_pruned_and_runs_at_every_rung") {
        let Some(description) = described(&case) else { continue };
        let name = case_name(&case);
        let home = tempfile::tempdir().unwrap();
        let bundle = home.path().join("bundle");
        let mut prune = program("host-prune");
        prune.args(["--target", "jetson-orin-nano", "--images-limit", "3", "--evaluations", "2", "--rungs", "4"]);
        prune.args(["--quiet", "--json", "--model"]).arg(&case).arg("--out").arg(&bundle);
        let report = json(&succeeds(&mut prune));
        assert_eq!(report["model"]["parameters"], description["parameters"], "{name}");
        let ladder = report["ladder"].as_array().unwrap();
        assert_eq!(ladder[0]["macs"], description["macs"], "{name}");
        assert_eq!(ladder.last().unwrap()["macs"], description["prunable"]["fewest_macs"], "{name}");
        let width = description["embed_dim"].as_u64().unwrap() as usize;
        for rung in 0..ladder.len() {
            let mut run = program("device-run");
            run.args(["--synthetic", "1", "--embedding", "--rung", &rung.to_string(), "--bundle"]).arg(&bundle);
            let line = json(&succeeds(&mut run));
            let embedding = line["embedding"].as_array().unwrap();
            assert_eq!(embedding.len(), width, "{name} at rung {rung}");
            assert!(embedding.iter().all(Value::is_number), "{name} at rung {rung}: {line}");
        }
    }
}

#[test]
fn every_fixture_takes_another_input_size() {
    for case in fixture_cases("every_fixture_takes_another_input_size") {
        let Some(description) = described(&case) else { continue };
        let patch = description["input"]["patch"].as_u64().unwrap();
        let size = format!("{}x{}", 4 * patch, 3 * patch);
        let arguments = ["--json", "--image-size", &size, "--describe"];
        let resized = json(&succeeds(program("host-prune").args(arguments).arg(&case)));
        assert_eq!(resized["tokens"]["patches"], 12, "{}", case_name(&case));
        assert_eq!(resized["parameters"], description["parameters"], "{}", case_name(&case));
        let arguments = ["--image-size", "1", "--describe"];
        headroom_tests::is_refused(
            program("host-prune").args(arguments).arg(&case),
            &["image size 1x1 is not a multiple", "hint"],
        );
    }
}
