//! Every golden fixture in eight-bit integers: the families that the integer engine runs are those of the f32 engine.

use headroom_device::engine::ElasticVit;
use headroom_device::integer::{IntegerOutput, IntegerSource, PackedIntegerVit};
use headroom_device::model::{Corrections, Description};
use headroom_host::checkpoint::{Checkpoint, CheckpointError};
use headroom_shared::{IntegerModel, KeptStructures};
use headroom_tests::{case_name, fixture_cases, say_skipped};

/// A model with everything kept.
struct Whole<'a>(&'a Description);

impl KeptStructures for Whole<'_> {
    fn heads(&self, _block: usize) -> usize {
        self.0.heads
    }

    fn head(&self, _block: usize, index: usize) -> usize {
        index
    }

    fn neurons(&self, _block: usize) -> usize {
        self.0.neurons
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// An embedding of random weights is as near as this: trained ones are nearer.
const NEAR: f64 = 0.99;

#[test]
fn every_fixture_is_in_integers_what_it_is_in_f32() {
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
        let (description, weights) = (&checkpoint.description, &checkpoint.weights);
        let source = IntegerSource {
            description,
            weights,
            weights_sha256: [0; 32],
            corrections: &Corrections::default(),
            counts: &IntegerSource::all_counts(description),
            original_ends: true,
        };
        let file = source.convert().and_then(|parts| Ok(parts.write().unwrap()));
        let file = file.unwrap_or_else(|error| panic!("{name}: {error}"));
        let model = IntegerModel::read(&file).unwrap();
        let (sizes, image) = (model.sizes(), &description.image);
        let frame: Vec<u8> = (0..sizes.frame_bytes()).map(|at| ((at * 7919) ^ (at * at / 31)) as u8).collect();
        let pixel = |channel: usize, byte: &u8| (f32::from(*byte) / 255.0 - image.mean[channel]) / image.std[channel];
        let channels =
            (0..3).flat_map(|channel| frame.iter().skip(channel).step_by(3).map(move |byte| (channel, byte)));
        let pixels: Vec<f32> = channels.map(|(channel, byte)| pixel(channel, byte)).collect();

        let vit = ElasticVit::new(description, weights).unwrap();
        let mut workspace = vit.workspace(1);
        let expected = vit.forward(&mut workspace, &pixels, 1, &Whole(description)).unwrap();
        let (mut embedding, mut tokens) = (vec![0.0; sizes.embed_dim], vec![0.0; sizes.tokens() * sizes.embed_dim]);
        let output =
            IntegerOutput { embedding: Some(&mut embedding), tokens: Some(&mut tokens), ..IntegerOutput::default() };
        PackedIntegerVit::new(model).infer(&frame, &Whole(description), output).unwrap();
        for (what, found, expected) in
            [("embedding", &embedding, expected.pooled), ("tokens", &tokens, expected.tokens)]
        {
            let cosine = cosine(found, expected);
            println!("{name}: {what} in int8 and f32 have a cosine of {cosine:.5}");
            assert!(cosine >= NEAR, "{name}: {what} {cosine}");
        }
    }
}
