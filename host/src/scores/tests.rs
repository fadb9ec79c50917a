//! The published files, with the counts that the authors' rule gives.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;

/// The published files, or a visible line that they are absent.
fn published() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let data = std::env::var_os("HEADROOM_DATA").map_or_else(|| root.join("../shared/data"), |path| root.join(path));
    let Ok(files) = std::fs::read_dir(data.join("snapvit-scores")) else {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "SKIPPED published SnapViT scores: not in {}", data.display());
        return Vec::new();
    };
    let files = files.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "pt")).collect()
}

#[test]
fn keeps_what_the_published_code_keeps() {
    for path in published() {
        let scores = SnapvitScores::read(&path).unwrap();
        let expected: Value =
            serde_json::from_slice(&std::fs::read(path.with_extension("expected.json")).unwrap()).unwrap();
        assert_eq!(scores.model_type.as_deref(), expected["model_type"].as_str());
        let floors = Floors {
            neurons: expected["min_hidden_dim_keep_ratio"].as_f64().unwrap(),
            heads: expected["min_head_keep_ratio"].as_f64().unwrap(),
        };
        let ratios = expected["ratios"].as_array().unwrap();
        assert!(!ratios.is_empty());
        for ratio in ratios {
            let sparsity =
                Sparsity { neurons: ratio["mlp"].as_f64().unwrap(), heads: ratio["heads"].as_f64().unwrap() };
            let counts = |key: &str| -> Vec<usize> { serde_json::from_value(ratio[key].clone()).unwrap() };
            let found = scores.keep_counts(sparsity, floors);
            assert_eq!(found.neurons, counts("neurons_kept"), "{} at {sparsity}", path.display());
            assert_eq!(found.heads, counts("heads_kept"), "{} at {sparsity}", path.display());
        }
    }
}

#[test]
fn refuses_what_holds_no_scores() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scores.pt");
    std::fs::write(&path, "no scores").unwrap();
    let message = SnapvitScores::read(&path).unwrap_err().to_string();
    assert!(message.contains("scores.pt"), "{message}");
}
