//! One description, two executors: every golden fixture through candle and
//! through the CPU engine, dense, at another input size, cut down, and with
//! tokens merged.

use candle_core::{DType, Device, Tensor};
use headroom_device::engine::ElasticVit;
use headroom_device::model::Weights;
use headroom_device::model::description::Position;
use headroom_host::checkpoint::{Checkpoint, CheckpointError, OpenOptions};
use headroom_host::executor::CandleVit;
use headroom_shared::KeptStructures;
use headroom_tests::{case_name, fixture_cases, relative_difference, say_skipped};

/// Largest difference over largest value. Both compute in f32; fixtures and each of them agree to 5e-6.
const TOLERANCE: f64 = 2e-5;

/// Of each block other heads, other dimensions of them, and another number of neurons; of some none. Each may also merge
/// a part of the tokens that reach it.
struct PartOf<'a> {
    checkpoint: &'a Checkpoint,
    removed: usize,
    merges: bool,
}

impl PartOf<'_> {
    fn gone(&self, block: usize, of: usize) -> usize {
        (block + 1) * self.removed % (of + 1)
    }

    /// Positions that turn queries and keys need all of them, and no token merged.
    fn is_rotary(&self) -> bool {
        matches!(self.checkpoint.description.embedding.position, Position::Rotary { .. })
    }
}

impl KeptStructures for PartOf<'_> {
    fn heads(&self, block: usize) -> usize {
        let heads = self.checkpoint.description.heads;
        heads - self.gone(block, heads)
    }

    fn head(&self, block: usize, index: usize) -> usize {
        // The first heads are gone.
        index + self.gone(block, self.checkpoint.description.heads)
    }

    fn neurons(&self, block: usize) -> usize {
        let neurons = self.checkpoint.description.neurons;
        neurons - self.gone(block, neurons)
    }

    fn value_dims(&self, block: usize) -> Option<usize> {
        let dims = self.checkpoint.description.head_dim;
        Some(dims - self.gone(block, dims - 1))
    }

    fn query_dims(&self, block: usize) -> Option<usize> {
        // Keys of one dimension are all alike, but for rounding, which would decide what is merged.
        self.value_dims(block).filter(|_| !self.is_rotary() && !self.merges)
    }

    fn merged_tokens(&self, block: usize) -> usize {
        if !self.merges || self.is_rotary() {
            return 0;
        }
        let description = &self.checkpoint.description;
        let mut patches = description.tokens() - description.prefix_tokens();
        let mut merged = 0;
        for _ in 0..=block {
            patches -= merged;
            merged = patches / 3;
        }
        merged
    }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference of tokens, embeddings and logits.
fn difference(checkpoint: &Checkpoint, pixels: &[f32], batch: usize, removed: usize, merges: bool) -> f64 {
    let description = &checkpoint.description;
    let image = &description.image;
    let weights = checkpoint.weights().unwrap();
    let kept = PartOf { checkpoint, removed, merges };

    let engine = ElasticVit::new(description, &weights).unwrap();
    let mut workspace = engine.workspace(batch);
    let ours = engine.forward(&mut workspace, pixels, batch, &kept).unwrap();

    let candle = CandleVit::load(description, &weights, &Device::Cpu, DType::F32).unwrap();
    let shape = (batch, image.channels, image.height, image.width);
    let pixels = Tensor::from_slice(pixels, shape, &Device::Cpu).unwrap();
    let theirs = candle.forward_kept(&pixels, &kept).unwrap();

    assert_eq!(ours.logits.is_some(), theirs.logits.is_some());
    let mut worst = relative_difference(ours.tokens, &values(&theirs.tokens));
    worst = worst.max(relative_difference(ours.pooled, &values(&theirs.pooled)));
    if let (Some(ours), Some(theirs)) = (ours.logits, &theirs.logits) {
        worst = worst.max(relative_difference(ours, &values(theirs)));
    }
    worst
}

#[test]
fn candle_and_the_engine_compute_the_same() {
    for case in fixture_cases("candle_and_the_engine_compute_the_same") {
        let name = case_name(&case);
        let mut compared = 0;
        let mut worst = 0f64;
        for file in ["io.safetensors", "io_size2.safetensors"] {
            let Ok(bytes) = std::fs::read(case.join(file)) else { continue };
            let inputs = Weights::from_safetensors(&bytes).unwrap();
            let pixels = inputs.get("pixel_values").unwrap();
            let options =
                OpenOptions { image_size: Some((pixels.shape[2], pixels.shape[3])), ..OpenOptions::default() };
            let checkpoint = match Checkpoint::open_with(&case, &options) {
                Ok(checkpoint) => checkpoint,
                Err(CheckpointError::Unsupported { seen, .. }) => {
                    say_skipped(&format!("{name}: not a supported family ({seen})"));
                    break;
                }
                Err(error) => panic!("{name}: {error}"),
            };
            for (removed, merges) in [(0, false), (1, false), (5, false), (0, true), (5, true)] {
                let difference = difference(&checkpoint, &pixels.data, pixels.shape[0], removed, merges);
                assert!(difference <= TOLERANCE, "{name}, {file}, {removed}, {merges}: differs by {difference:.2e}");
                worst = worst.max(difference);
                compared += 1;
            }
        }
        println!("{name}: {compared} comparisons, largest relative difference {worst:.1e}");
    }
}
