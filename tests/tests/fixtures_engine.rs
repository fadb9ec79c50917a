//! Every golden fixture through the loader and the CPU engine: the values that
//! PyTorch computed, hidden states of every block included, the physically
//! pruned models, other input sizes, and what a permutation must not change.

use std::path::Path;

use headroom_device::engine::ElasticVit;
use headroom_device::model::{Description, Weights};
use headroom_host::checkpoint::{BlockOrder, Checkpoint, CheckpointError, OpenOptions, Permutation};
use headroom_shared::KeptStructures;
use headroom_tests::{Whole, case_name, fixture_cases, relative_difference, say_skipped};
use serde_json::Value;

/// Largest difference over largest value, as the fixtures' README defines it.
const TOLERANCE: f64 = 1e-4;

fn tensors(path: &Path) -> Weights {
    Weights::from_safetensors(&std::fs::read(path).unwrap()).unwrap()
}

fn open(case: &Path, options: &OpenOptions) -> Option<Checkpoint> {
    match Checkpoint::open_with(case, options) {
        Ok(checkpoint) => Some(checkpoint),
        Err(CheckpointError::Unsupported { seen, .. }) => {
            say_skipped(&format!("{}: not a supported family ({seen})", case_name(case)));
            None
        }
        Err(error) => panic!("{}: {error}", case_name(case)),
    }
}

/// Runs the inputs of `reference` and compares everything that it holds.
/// Returns the number of compared tensors and the largest difference.
fn compare(
    name: &str,
    description: &Description,
    weights: &Weights,
    kept: &impl KeptStructures,
    pixels: &Weights,
    reference: &Weights,
) -> (usize, f64) {
    let vit = ElasticVit::new(description, weights).unwrap_or_else(|error| panic!("{name}: {error}"));
    let pixels = &pixels.get("pixel_values").expect("every reference has its input");
    let batch = pixels.shape[0];
    let mut workspace = vit.workspace(batch);
    let mut compared = 0;
    let mut worst = 0f64;
    let mut check = |tensor: &str, found: &[f32]| {
        if let Some(expected) = reference.get(tensor) {
            let difference = relative_difference(found, &expected.data);
            assert!(difference <= TOLERANCE, "{name}: {tensor} differs by {difference:.2e}");
            compared += 1;
            worst = worst.max(difference);
        }
    };
    let mut states: Vec<Vec<f32>> = Vec::new();
    let output = vit
        .forward_observed(&mut workspace, &pixels.data, batch, kept, |_, tokens: &[f32]| states.push(tokens.to_vec()))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    for (index, state) in states.iter().enumerate() {
        check(&format!("hidden_states.{index}"), state);
    }
    check("last_hidden_state", output.tokens);
    check("pooled", output.pooled);
    if let Some(two) = output.two_classifiers {
        check("cls_logits", two.class);
        check("distillation_logits", two.distillation);
    }
    if let Some(logits) = output.logits {
        check(if reference.get("logits").is_some() { "logits" } else { "image_embeds" }, logits);
    }
    (compared, worst)
}

#[test]
fn every_fixture_computes_what_pytorch_computes() {
    for case in fixture_cases("every_fixture_computes_what_pytorch_computes") {
        let Some(checkpoint) = open(&case, &OpenOptions::default()) else { continue };
        let name = case_name(&case);
        let reference = tensors(&case.join("io.safetensors"));
        let description = &checkpoint.description;
        let weights = checkpoint.weights().unwrap();
        let (compared, worst) =
            compare(&name, description, &weights, &Whole { description, merged: 0 }, &reference, &reference);
        assert!(compared >= 3 + description.blocks.len(), "{name}: only {compared} tensors were compared");
        println!("{name}: {compared} tensors, largest relative difference {worst:.1e}");
    }
}

#[test]
fn every_fixture_computes_the_same_at_another_input_size() {
    for case in fixture_cases("every_fixture_computes_the_same_at_another_input_size") {
        let path = case.join("io_size2.safetensors");
        if !path.is_file() {
            continue;
        }
        let reference = tensors(&path);
        let shape = &reference.get("pixel_values").unwrap().shape;
        let options = OpenOptions { image_size: Some((shape[2], shape[3])), ..OpenOptions::default() };
        let Some(checkpoint) = open(&case, &options) else { continue };
        let description = &checkpoint.description;
        let weights = checkpoint.weights().unwrap();
        let name = format!("{} at {}x{}", case_name(&case), shape[2], shape[3]);
        let (compared, worst) =
            compare(&name, description, &weights, &Whole { description, merged: 0 }, &reference, &reference);
        assert!(compared >= 3, "{name}: only {compared} tensors were compared");
        println!("{name}: {compared} tensors, largest relative difference {worst:.1e}");
    }
}

/// What `pruned.json` keeps, once the kept structures come first.
struct Kept {
    heads: Vec<usize>,
    neurons: Vec<usize>,
}

impl KeptStructures for Kept {
    fn heads(&self, block: usize) -> usize {
        self.heads[block]
    }

    fn head(&self, _block: usize, index: usize) -> usize {
        index
    }

    fn neurons(&self, block: usize) -> usize {
        self.neurons[block]
    }
}

/// The kept indices first, then the others.
fn kept_first(kept: &[usize], all: usize) -> Vec<usize> {
    let others = (0..all).filter(|index| !kept.contains(index));
    kept.iter().copied().chain(others).collect()
}

fn indices(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|index| index.as_u64().unwrap() as usize).collect()
}

/// `pruned.json` as a permutation and the counts of its prefixes.
fn pruned(case: &Path, description: &Description) -> (Permutation, Kept) {
    let json: Value = serde_json::from_slice(&std::fs::read(case.join("pruned.json")).unwrap()).unwrap();
    let per_block = |key: &str| -> Vec<Vec<usize>> {
        (0..description.blocks.len()).map(|block| indices(&block_entry(&json, block)[key])).collect()
    };
    let (heads, neurons) = (per_block("kept_heads"), per_block("kept_neurons"));
    let blocks = heads
        .iter()
        .zip(&neurons)
        .map(|(heads, neurons)| BlockOrder {
            heads: kept_first(heads, description.heads),
            neurons: kept_first(neurons, description.neurons),
        })
        .collect();
    let kept = Kept { heads: heads.iter().map(Vec::len).collect(), neurons: neurons.iter().map(Vec::len).collect() };
    (Permutation { blocks }, kept)
}

fn block_entry(json: &Value, block: usize) -> &Value {
    match &json["blocks"] {
        Value::Array(blocks) => &blocks[block],
        other => &other[block.to_string()],
    }
}

#[test]
fn pruned_fixtures_equal_the_physically_cut_models() {
    for case in fixture_cases("pruned_fixtures_equal_the_physically_cut_models") {
        if !case.join("pruned.json").is_file() {
            continue;
        }
        let Some(checkpoint) = open(&case, &OpenOptions::default()) else { continue };
        let description = &checkpoint.description;
        let (permutation, kept) = pruned(&case, description);
        let weights = permutation.apply(description, &checkpoint.weights().unwrap()).unwrap();
        let (pixels, reference) = (tensors(&case.join("io.safetensors")), tensors(&case.join("pruned_io.safetensors")));
        let (compared, worst) = compare(&case_name(&case), description, &weights, &kept, &pixels, &reference);
        assert!(compared >= 2, "{}: only {compared} tensors were compared", case_name(&case));
        println!("{} pruned: {compared} tensors, largest relative difference {worst:.1e}", case_name(&case));
    }
}

#[test]
fn a_permuted_checkpoint_is_the_same_function_under_the_same_names() {
    for case in fixture_cases("a_permuted_checkpoint_is_the_same_function_under_the_same_names") {
        let Some(checkpoint) = open(&case, &OpenOptions::default()) else { continue };
        let description = &checkpoint.description;
        let reversed = |count: usize| (0..count).rev().collect::<Vec<_>>();
        let order = BlockOrder { heads: reversed(description.heads), neurons: reversed(description.neurons) };
        let permutation = Permutation { blocks: vec![order; description.blocks.len()] };

        let home = tempfile::tempdir().unwrap();
        checkpoint.write_permuted(&permutation, &Weights::default(), &home.path().join("model.safetensors")).unwrap();
        if case.join("config.json").is_file() {
            std::fs::copy(case.join("config.json"), home.path().join("config.json")).unwrap();
        }
        let permuted = Checkpoint::open(home.path()).unwrap();
        let weights = permuted.weights().unwrap();
        let original = checkpoint.weights().unwrap();
        let names = |weights: &Weights| weights.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&weights), names(&original));
        assert_ne!(weights, original, "{}: nothing was permuted", case_name(&case));

        let embed = |weights: &Weights| {
            let vit = ElasticVit::new(description, weights).unwrap();
            let pixels = tensors(&case.join("io.safetensors")).get("pixel_values").unwrap().clone();
            let mut workspace = vit.workspace(pixels.shape[0]);
            let output =
                vit.forward(&mut workspace, &pixels.data, pixels.shape[0], &Whole { description, merged: 0 }).unwrap();
            (output.tokens.to_vec(), output.pooled.to_vec())
        };
        let ((tokens, pooled), (expected_tokens, expected_pooled)) = (embed(&weights), embed(&original));
        assert!(relative_difference(&tokens, &expected_tokens) <= 1e-5, "{}", case_name(&case));
        assert!(relative_difference(&pooled, &expected_pooled) <= 1e-5, "{}", case_name(&case));
    }
}
