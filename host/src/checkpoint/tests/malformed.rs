use std::fs;

use super::tiny::{CONFIG, TinyVit};
use crate::checkpoint::{Checkpoint, CheckpointError, OpenOptions};

fn open(vit: &TinyVit, config: Option<&str>) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::from_bytes(vit.bytes(), config, &OpenOptions::default())
}

/// The message of the error, which must hold all of `parts`.
fn refused(result: Result<impl Sized, CheckpointError>, parts: &[&str]) {
    let message = result.err().expect("it must be refused").to_string();
    for part in parts {
        assert!(message.contains(part), "expected `{part}` in: {message}");
    }
}

#[test]
fn every_truncation_is_refused() {
    let bytes = TinyVit::new().bytes();
    for length in 0..bytes.len() {
        let result = Checkpoint::from_bytes(bytes[..length].to_vec(), Some(CONFIG), &OpenOptions::default());
        assert!(matches!(result, Err(CheckpointError::MalformedWeights { .. })), "{length} bytes");
    }
    let longer = [&bytes[..], &[0]].concat();
    refused(Checkpoint::from_bytes(longer, Some(CONFIG), &OpenOptions::default()), &["overlong"]);
}

#[test]
fn no_flipped_bit_of_the_header_panics() {
    let bytes = TinyVit::new().bytes();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    for byte in 0..header {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[byte] ^= 1 << bit;
            if let Ok(checkpoint) = Checkpoint::from_bytes(flipped, Some(CONFIG), &OpenOptions::default()) {
                assert!(checkpoint.weights().is_ok(), "byte {byte}, bit {bit}");
            }
        }
    }
}

#[test]
fn a_header_that_promises_the_moon_allocates_nothing() {
    let mut bytes = TinyVit::new().bytes();
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    refused(Checkpoint::from_bytes(bytes, Some(CONFIG), &OpenOptions::default()), &["18446744073709551615"]);
}

#[test]
fn a_config_that_disagrees_names_the_tensor_and_both_shapes() {
    let vit = TinyVit::new();
    for (from, to, parts) in [
        (r#""embed_dim": 8"#, r#""embed_dim": 16"#, &["patch_embed.proj.weight", "[16, 3, 2, 2]", "[8, 3, 2, 2]"][..]),
        (r#""patch_size": 2"#, r#""patch_size": 4"#, &["patch_embed.proj.weight", "[8, 3, 4, 4]", "[8, 3, 2, 2]"]),
        (r#""img_size": 4"#, r#""img_size": 8"#, &["pos_embed", "[17, 8]", "[1, 5, 8]"]),
        (r#""num_classes": 3"#, r#""num_classes": 10"#, &["head.weight", "[10, 8]", "[3, 8]"]),
        (r#""depth": 2"#, r#""depth": 3"#, &["blocks.2.norm1.weight", "lacks"]),
        (r#""depth": 2"#, r#""depth": 1"#, &["blocks.1.", "no place"]),
        (r#""num_heads": 4"#, r#""num_heads": 3"#, &["3 attention heads", "8"]),
        (r#""num_heads": 4"#, r#""num_heads": 0"#, &["0 attention heads", "8"]),
    ] {
        assert!(CONFIG.contains(from));
        refused(open(&vit, Some(&CONFIG.replace(from, to))), parts);
    }
}

#[test]
fn tensors_that_disagree_are_named() {
    let wrong = |shape: &mut Vec<usize>, values: &mut Vec<f32>| {
        shape[0] += 1;
        values.resize(shape.iter().product(), 0.0);
    };
    let vit = TinyVit::new().edit("blocks.1.attn.qkv.weight", wrong);
    refused(open(&vit, Some(CONFIG)), &["blocks.1.attn.qkv.weight", "[24, 8]", "[25, 8]"]);
    let vit = TinyVit::new().edit("norm.bias", wrong);
    refused(open(&vit, Some(CONFIG)), &["norm.bias", "[8]", "[9]"]);
    let vit = TinyVit::new().without("blocks.1.mlp.fc2.weight");
    refused(open(&vit, Some(CONFIG)), &["blocks.1.mlp.fc2.weight", "lacks"]);
    let mut vit = TinyVit::new();
    vit.add("blocks.0.attn.q_norm.weight", &[2]);
    refused(open(&vit, Some(CONFIG)), &["blocks.0.attn.q_norm.weight", "no place in timm ViT"]);
}

#[test]
fn weights_that_are_not_finite_are_named_with_their_place() {
    for (value, word) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let vit = TinyVit::new().edit("blocks.1.mlp.fc1.weight", |_, values| values[7] = value);
        let checkpoint = open(&vit, Some(CONFIG)).unwrap();
        refused(checkpoint.weights(), &["blocks.1.mlp.fc1.weight", word, "element 7"]);
    }
}

#[test]
fn other_types_than_floats_are_refused() {
    let bytes = TinyVit::new().bytes();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let text = std::str::from_utf8(&bytes[8..header]).unwrap().replace(r#""dtype":"F32""#, r#""dtype":"I32""#);
    let bytes = [&bytes[..8], text.as_bytes(), &bytes[header..]].concat();
    refused(Checkpoint::from_bytes(bytes, Some(CONFIG), &OpenOptions::default()), &["patch_embed", "I32", "BF16"]);
}

#[test]
fn an_unknown_model_is_told_what_is_supported() {
    let mut vit = TinyVit { tensors: Vec::new() };
    vit.add("layer1.0.conv1.weight", &[4, 4, 3, 3]);
    let config = r#"{"architecture": "resnet50"}"#;
    refused(open(&vit, Some(config)), &["resnet50", "layer1.0.conv1.weight", "supported are timm ViT", "DINOv3"]);
    refused(open(&vit, None), &["no config.json", "blocks.0.attn.qkv.weight"]);
    let config = CONFIG.replace("vit_tiny_patch16_224", "vit_base_patch16_rpn_224");
    refused(open(&TinyVit::new(), Some(&config)), &["vit_base_patch16_rpn_224", "normalise after"]);
}

#[test]
fn a_config_that_is_no_config_is_refused() {
    refused(open(&TinyVit::new(), Some("{")), &["config in memory", "EOF"]);
    let config = CONFIG.replace(r#""num_heads": 4"#, r#""num_heads": "four""#);
    refused(open(&TinyVit::new(), Some(&config)), &["config in memory", "four"]);
    let config = CONFIG.replace(r#""num_heads": 4"#, r#""num_heads": 4, "act_layer": "relu""#);
    refused(open(&TinyVit::new(), Some(&config)), &["act_layer", "relu", "gelu"]);
}

#[test]
fn heads_that_nothing_tells_are_asked_for() {
    let vit = TinyVit::new();
    let error = open(&vit, None).unwrap_err();
    assert!(error.hint().unwrap().contains("--heads"), "{error}");
    let options = OpenOptions { heads: Some(4), image_size: None };
    let bare = Checkpoint::from_bytes(vit.bytes(), None, &options).unwrap();
    let described = open(&vit, Some(CONFIG)).unwrap();
    assert_eq!(bare.description.blocks, described.description.blocks);
    assert_eq!((bare.description.heads, bare.description.image.height), (4, 4));
}

#[test]
fn an_image_size_that_is_not_whole_patches_is_refused() {
    let open = |size| {
        let options = OpenOptions { heads: None, image_size: Some(size) };
        Checkpoint::from_bytes(TinyVit::new().bytes(), Some(CONFIG), &options)
    };
    let error = open((5, 4)).unwrap_err();
    assert!(error.to_string().contains("5x4") && error.hint().unwrap().contains("6x4"), "{error}");
    assert!(open((0, 4)).is_err());
    let description = open((8, 6)).unwrap().description;
    assert_eq!((description.image.height, description.image.width, description.grid()), (8, 6, (4, 3)));
}

#[test]
fn files_that_are_not_there_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    refused(Checkpoint::open(&path.join("nowhere")), &["nowhere", "does not exist"]);
    refused(Checkpoint::open(path), &["no weight file", "model.safetensors"]);
    fs::write(path.join("notes.txt"), "").unwrap();
    refused(Checkpoint::open(&path.join("notes.txt")), &["notes.txt", "extension `txt`"]);

    let index = r#"{"weight_map": {"norm.weight": "model-00001-of-00002.safetensors"}}"#;
    fs::write(path.join("model.safetensors.index.json"), index).unwrap();
    refused(Checkpoint::open(path), &["model-00001-of-00002.safetensors", "norm.weight", "missing"]);
    let outside = r#"{"weight_map": {"norm.weight": "../model.safetensors"}}"#;
    fs::write(path.join("model.safetensors.index.json"), outside).unwrap();
    refused(Checkpoint::open(path), &["../model.safetensors"]);
    fs::remove_file(path.join("model.safetensors.index.json")).unwrap();

    for name in ["a.safetensors", "b.safetensors"] {
        fs::write(path.join(name), TinyVit::new().bytes()).unwrap();
    }
    refused(Checkpoint::open(path), &["2 weight files", "a.safetensors", "b.safetensors"]);
    fs::write(path.join("a.config.json"), CONFIG).unwrap();
    assert!(Checkpoint::open(&path.join("a.safetensors")).is_ok());
}
