//! Every golden case against the facts in its META.json.

use headroom_device::model::Weights;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use headroom_device::model::Description;
use headroom_device::model::description::{Activation, Head, Mlp, Pooling, Position, PositionResampling, PrefixKind};
use serde_json::{Value, json};

use crate::checkpoint::check::Named;
use crate::checkpoint::{Checkpoint, OpenOptions};

/// The case folders, or none with a visible line.
fn cases(test: &str) -> Vec<PathBuf> {
    let folder = std::env::var_os("HEADROOM_FIXTURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures")),
        |path| Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path),
    );
    let Ok(entries) = folder.read_dir() else {
        // Straight to stderr: the test runner hides what print macros say.
        writeln!(std::io::stderr(), "SKIPPED {test}: no folder {} (set HEADROOM_FIXTURES)", folder.display()).unwrap();
        return Vec::new();
    };
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.join("META.json").is_file()).collect()
}

fn facts(case: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(case.join("META.json")).unwrap()).unwrap()
}

/// What META.json says of a model, said of a description.
fn as_facts(description: &Description) -> Value {
    let embedding = &description.embedding;
    let block = &description.blocks[0];
    let prefix = |kind| match kind {
        PrefixKind::Class => "cls",
        PrefixKind::Distillation => "dist",
        PrefixKind::Registers => "reg",
    };
    let positions = match &embedding.position {
        Position::Rotary { theta } => json!({"theta": theta}),
        Position::Learned { prefix_positions, resampling, .. } => json!({
            "num_prefix_positions": prefix_positions,
            "antialias": *resampling == PositionResampling::BicubicAntialias,
        }),
    };
    let (pooling, pooling_heads) = match &description.pooling {
        Pooling::Class => ("cls", None),
        Pooling::ClassThenNorm { .. } => ("cls_then_norm", None),
        Pooling::ClassDenseTanh { .. } => ("cls_dense_tanh", None),
        Pooling::MeanClassDistillation => ("mean_cls_dist", None),
        Pooling::MeanPatches => ("mean_patches", None),
        Pooling::MeanPatchesThenNorm { .. } => ("mean_patches_then_norm", None),
        Pooling::Attention { heads, .. } => ("map", Some(*heads)),
    };
    let head = description.head.as_ref().map(|head| match head {
        Head::Linear { linear } if linear.bias.is_none() => "projection_no_bias",
        Head::Linear { .. } => "linear",
        Head::ClassAndPatchMean { .. } => "linear_cls_and_patch_mean",
        Head::AverageOfTwo { .. } => "average_of_two",
    });
    json!({
        "image_size": description.image.height,
        "patch_size": description.image.patch,
        "grid": description.grid(),
        "embed_dim": description.embed_dim,
        "depth": description.blocks.len(),
        "num_heads": description.heads,
        "head_dim": description.head_dim,
        "mlp_hidden": description.neurons,
        "gated": matches!(block.mlp, Mlp::Gated { .. }),
        "activation": match description.activation {
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_tanh",
            Activation::QuickGelu => "quick_gelu",
            Activation::Silu => "silu",
        },
        "layer_norm_eps": block.norm2.eps,
        "prefix_order": embedding.prefix.iter().map(|tokens| prefix(tokens.kind)).collect::<Vec<_>>(),
        "num_prefix_tokens": description.prefix_tokens(),
        "num_tokens": description.tokens(),
        "positions": positions,
        "pre_transformer_norm": embedding.norm.is_some(),
        "layer_scale": block.layer_scale1.is_some() && block.layer_scale2.is_some(),
        "qkv_bias": {"q": block.query.bias.is_some(), "k": block.key.bias.is_some(), "v": block.value.bias.is_some()},
        "final_norm": if description.final_norm.is_some() { "tokens" } else { "none" },
        "pooling": pooling,
        "pooling_heads": pooling_heads,
        "head": head,
        "mean": description.image.mean,
        "std": description.image.std,
    })
}

/// The same list, from META.json.
fn expected_facts(meta: &Value) -> Value {
    let mut expected = serde_json::Map::new();
    for key in [
        "image_size",
        "patch_size",
        "grid",
        "embed_dim",
        "depth",
        "num_heads",
        "head_dim",
        "mlp_hidden",
        "activation",
        "layer_norm_eps",
        "prefix_order",
        "num_prefix_tokens",
        "num_tokens",
        "pre_transformer_norm",
        "layer_scale",
        "qkv_bias",
        "final_norm",
        "pooling",
        "pooling_heads",
        "head",
    ] {
        expected.insert(key.to_owned(), meta[key].clone());
    }
    let positions = match &meta["pos_embed"] {
        Value::Null => json!({"theta": meta["rope"]["theta"]}),
        learned => json!({
            "num_prefix_positions": learned["num_prefix_positions"],
            "antialias": learned["interpolation"]["antialias"],
        }),
    };
    expected.insert("positions".to_owned(), positions);
    expected.insert("gated".to_owned(), json!(meta["mlp_layout"] != "plain"));
    for key in ["mean", "std"] {
        let values = meta["input_normalisation"][key].as_array().unwrap();
        let values: Vec<f32> = values.iter().map(|value| value.as_f64().unwrap() as f32).collect();
        expected.insert(key.to_owned(), json!(values));
    }
    Value::Object(expected)
}

#[test]
fn every_case_is_described_as_its_facts_say() {
    for case in cases("every_case_is_described_as_its_facts_say") {
        let checkpoint = Checkpoint::open(&case).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
        let meta = facts(&case);
        assert_eq!(as_facts(&checkpoint.description), expected_facts(&meta), "{}", case.display());
        let bytes = if meta["storage_dtype"] == "F32" { 4 } else { 2 };
        assert_eq!(checkpoint.bytes_per_weight(), bytes, "{}", case.display());
        assert_eq!(checkpoint.description.labels, None, "{}: LABEL_0 is no name", case.display());
    }
}

#[test]
fn every_tensor_is_named_or_known_to_have_no_effect() {
    for case in cases("every_tensor_is_named_or_known_to_have_no_effect") {
        let checkpoint = Checkpoint::open(&case).unwrap();
        let meta = facts(&case);
        let named: BTreeSet<&str> = Named::of(&checkpoint.description, checkpoint.tensors(), None)
            .iter()
            .map(|named| named.tensor.name.as_str())
            .collect();
        let idle: BTreeSet<&str> = meta["tensors_without_effect_on_the_outputs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        let all = meta["checkpoint_tensors"].as_object().unwrap();
        for (name, fact) in all {
            assert!(named.contains(name.as_str()) || idle.contains(name.as_str()), "{}: {name}", case.display());
            let info = checkpoint.tensors().info(name).unwrap();
            assert_eq!((json!(info.shape), json!(info.dtype)), (fact["shape"].clone(), fact["dtype"].clone()));
        }
        let weights = checkpoint.weights().unwrap();
        assert_eq!(weights.iter().map(|(name, _)| name).collect::<BTreeSet<_>>(), named);
        let has_text_tower = all.keys().any(|name| name.starts_with("text_model."));
        assert_eq!(checkpoint.notes.iter().any(|note| note.contains("two towers")), has_text_tower);
    }
}

#[test]
fn every_case_takes_another_image_size_and_keeps_its_weights() {
    for case in cases("every_case_takes_another_image_size_and_keeps_its_weights") {
        let own = Checkpoint::open(&case).unwrap();
        let patch = own.description.image.patch;
        let options = OpenOptions { heads: None, image_size: Some((5 * patch, 2 * patch)) };
        let other = Checkpoint::open_with(&case, &options).unwrap();
        assert_eq!(other.description.grid(), (5, 2));
        assert_eq!(other.description.embedding, own.description.embedding);
    }
}

#[test]
fn the_identity_reproduces_every_single_file() {
    for case in cases("the_identity_reproduces_every_single_file") {
        let checkpoint = Checkpoint::open(&case).unwrap();
        let identity = crate::checkpoint::Permutation::identity(&checkpoint.description);
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("model.safetensors");
        checkpoint.write_permuted(&identity, &Weights::default(), &out).unwrap();
        let source = case.join("model.safetensors");
        if source.is_file() {
            assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(source).unwrap(), "{}", case.display());
        }
        std::fs::copy(case.join("config.json"), folder.path().join("config.json")).unwrap();
        assert_eq!(Checkpoint::open(folder.path()).unwrap().weights().unwrap(), checkpoint.weights().unwrap());
    }
}
