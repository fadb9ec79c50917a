//! Every golden fixture and the trained models in eight-bit integers: the families that the integer engine runs are
//! those of the f32 engine, and it merges the same tokens.

use std::path::PathBuf;

use headroom_device::engine::ElasticVit;
use headroom_device::images::decode_file;
use headroom_device::integer::{IntegerOutput, IntegerSource, PackedIntegerVit};
use headroom_device::model::Corrections;
use headroom_host::checkpoint::{Checkpoint, CheckpointError};
use headroom_host::embedder::cosine;
use headroom_shared::IntegerModel;
use headroom_tests::{Reference, Whole, case_name, fixture_cases, say_skipped};

/// The mean cosines of embeddings and of all tokens in int8 and f32, for each number of tokens that blocks merge.
fn cosines(checkpoint: &Checkpoint, frames: &[Vec<u8>], merged: &[usize]) -> Vec<[f64; 2]> {
    let (description, weights) = (&checkpoint.description, &checkpoint.weights().unwrap());
    let source = IntegerSource {
        description,
        weights,
        weights_sha256: [0; 32],
        corrections: &Corrections::default(),
        counts: &IntegerSource::all_counts(description),
        original_ends: true,
    };
    let file = source.convert().expect("every family has an integer form").write().unwrap();
    let model = IntegerModel::read(&file).unwrap();
    let (sizes, image) = (*model.sizes(), &description.image);
    let (mut embedding, mut tokens) = (vec![0.0; sizes.embed_dim], vec![0.0; sizes.tokens() * sizes.embed_dim]);
    let vit = ElasticVit::new(description, weights).unwrap();
    let (mut workspace, integers) = (vit.workspace(1), PackedIntegerVit::new(model));
    let mut integer_workspace = integers.workspace();
    let mut of_schedule = |merged: &usize| {
        let kept = Whole { description, merged: *merged };
        let mut sums = [0.0; 2];
        for frame in frames {
            let pixels: Vec<f32> = (0..3)
                .flat_map(|channel| frame.iter().skip(channel).step_by(3).map(move |byte| (channel, byte)))
                .map(|(channel, byte)| (f32::from(*byte) / 255.0 - image.mean[channel]) / image.std[channel])
                .collect();
            let expected = vit.forward(&mut workspace, &pixels, 1, &kept).unwrap();
            let output = IntegerOutput { embedding: Some(&mut embedding), logits: None, tokens: Some(&mut tokens) };
            integers.infer(&mut integer_workspace, frame, &kept, output).unwrap();
            sums[0] += cosine(&embedding, expected.pooled);
            sums[1] += cosine(&tokens, expected.tokens);
        }
        sums.map(|sum| sum / frames.len() as f64)
    };
    merged.iter().map(&mut of_schedule).collect()
}

#[test]
fn every_fixture_is_in_integers_what_it_is_in_f32() {
    // Embeddings of random weights are as near as this: trained ones are nearer.
    const NEAR: f64 = 0.99;
    for case in fixture_cases("every_fixture_is_in_integers_what_it_is_in_f32") {
        let name = case_name(&case);
        let checkpoint = match Checkpoint::open(&case) {
            Ok(checkpoint) => checkpoint,
            Err(CheckpointError::Unsupported { seen, .. }) => {
                say_skipped(&format!("{name}: not a supported family ({seen})"));
                continue;
            }
            Err(error) => panic!("{name}: {error}"),
        };
        let image = &checkpoint.description.image;
        let frame = (0..3 * image.height * image.width).map(|at| ((at * 7919) ^ (at * at / 31)) as u8).collect();
        let [embedding, tokens] = cosines(&checkpoint, &[frame], &[0])[0];
        println!("{name}: int8 and f32 have cosines of {embedding:.5} (embedding) and {tokens:.5} (tokens)");
        assert!(embedding >= NEAR && tokens >= NEAR, "{name}: {embedding} and {tokens}");
    }
}

#[test]
fn trained_models_merge_tokens_in_integers_as_in_f32() {
    let test = "trained_models_merge_tokens_in_integers_as_in_f32";
    let (Some(models), Some(data)) = (Reference::Models.folder(test), Reference::Data.folder(test)) else { return };
    let listed = |folder: PathBuf| {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let classes = listed(data.join("cifar10/query")).into_iter();
    let files = classes.flat_map(|class| listed(class).into_iter().take(3));
    let frames: Vec<Vec<u8>> = files.map(|file| decode_file(&file).unwrap().into_raw()).collect();
    for name in ["vit_cifar10_s", "vit_cifar10_xs"] {
        let checkpoint = Checkpoint::open(&models.join(name).with_extension("safetensors")).unwrap();
        let schedules = [0, 2, 4, 5];
        for (merged, [embedding, tokens]) in schedules.iter().zip(cosines(&checkpoint, &frames, &schedules)) {
            println!("{name}, {merged} merged in each block: {embedding:.5} (embedding), {tokens:.5} (tokens)");
            // Tokens that are as good as equally alike may be merged otherwise than in f32.
            assert!(embedding >= 0.999 && tokens >= 0.98, "{name}, {merged}: {embedding} and {tokens}");
        }
    }
}
