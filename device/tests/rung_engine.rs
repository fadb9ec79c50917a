//! The rungs of a bundle in both precisions: whose results they are, and what is refused when.

use std::sync::Arc;

use headroom_device::bundle::Bundle;
use headroom_device::corrected::Corrected;
use headroom_device::integer::{IntegerEngineError, IntegerOutput, PackedIntegerVit, frames};
use headroom_device::precision::Precision;
use headroom_device::rung_engine::{RungEngine, RungEngineError};
use headroom_device::switch::RungTable;

mod random_bundle;
mod random_model;

use random_bundle::{open, open_with_integer_model, tiny, write_with_integer_model, write_with_integer_neurons};
use random_model::{Choices, noise};

const RUNGS: usize = 4;

/// Embedding and logits.
type Outputs = (Vec<f32>, Vec<f32>);

fn run(engine: &RungEngine, threads: usize, rung: usize, pixels: &[f32]) -> Outputs {
    let mut workspace = engine.workspace(threads);
    workspace.set_pixels(pixels).unwrap();
    let output = engine.infer(&mut workspace, rung).unwrap();
    (output.embedding.to_vec(), output.logits.unwrap_or_default().to_vec())
}

fn expected_in_f32(bundle: &Bundle, rung: usize, pixels: &[f32]) -> Outputs {
    let table = RungTable::new(&bundle.structure_map());
    let kept = bundle.corrected(rung, &table.sub_networks()[rung]);
    let mut workspace = bundle.vit().workspace(1);
    let output = bundle.vit().embed(&mut workspace, pixels, 1, &kept).unwrap();
    (output.pooled.to_vec(), output.logits.unwrap_or_default().to_vec())
}

fn expected_in_int8(bundle: &Bundle, rung: usize, pixels: &[f32]) -> Outputs {
    let table = RungTable::new(&bundle.structure_map());
    let vit = PackedIntegerVit::new(bundle.integer_model().unwrap());
    let sizes = vit.model().sizes();
    let (mut embedding, mut logits) = (vec![0.0; sizes.embed_dim], vec![0.0; sizes.classes]);
    let kept = Corrected { kept: &table.sub_networks()[rung], correction: vit.model().correction_of_rung(rung) };
    let output = IntegerOutput { embedding: Some(&mut embedding), logits: Some(&mut logits), tokens: None };
    let frame = frames(pixels, &bundle.description().image);
    vit.infer(&mut vit.workspace(), &frame, &kept, output).unwrap();
    (embedding, logits)
}

#[test]
fn every_rung_gives_what_its_engine_gives_on_any_number_of_threads() {
    // With and without a classifier.
    for choices in [tiny(), Choices { head: random_model::HeadChoice::None, ..tiny() }] {
        let bundle = Arc::new(open_with_integer_model(&choices, 1, RUNGS));
        let pixels: Vec<f32> = noise(3, bundle.vit().pixels()).collect();
        let [f32, int8] =
            [Precision::F32, Precision::Int8].map(|precision| RungEngine::new(bundle.clone(), precision).unwrap());
        assert_eq!([f32.precision(), int8.precision()], [Precision::F32, Precision::Int8]);
        let mut seen = Vec::new();
        for rung in 0..RUNGS {
            for threads in [1, 3] {
                assert_eq!(run(&f32, threads, rung, &pixels), expected_in_f32(&bundle, rung, &pixels));
                assert_eq!(run(&int8, threads, rung, &pixels), expected_in_int8(&bundle, rung, &pixels));
            }
            seen.extend([run(&f32, 1, rung, &pixels), run(&int8, 1, rung, &pixels)]);
        }
        let different = seen.iter().enumerate().all(|(index, one)| seen[..index].iter().all(|other| other != one));
        assert!(different, "rungs and precisions cannot be told apart");
    }
}

#[cfg(feature = "images")]
#[test]
fn an_image_gives_what_its_normalised_pixels_give() {
    use headroom_device::images::{Preprocessor, SyntheticFrames};
    let bundle = Arc::new(open_with_integer_model(&tiny(), 1, RUNGS));
    let image = SyntheticFrames::new(0, 30, 40).frame(0);
    let pixels = Preprocessor::new(&bundle.description().image).unwrap().evaluation(&image).unwrap();
    for precision in [Precision::F32, Precision::Int8] {
        let engine = RungEngine::new(bundle.clone(), precision).unwrap();
        let mut workspace = engine.workspace(1);
        workspace.set_image(&image).unwrap();
        // The input stays, whatever runs.
        let first = engine.infer(&mut workspace, 1).unwrap().embedding.to_vec();
        engine.infer(&mut workspace, 0).unwrap();
        assert_eq!(engine.infer(&mut workspace, 1).unwrap().embedding, first);
        assert_eq!(run(&engine, 1, 1, &pixels).0, first);
    }
}

#[test]
fn a_bundle_that_cannot_run_every_rung_in_int8_is_refused_at_once_unless_some_are_enough() {
    let without = RungEngine::new(open(&tiny(), 1, RUNGS), Precision::Int8).unwrap_err();
    assert_eq!(without, RungEngineError::NoIntegerModel);
    assert!(without.hint().unwrap().contains("host-prune --precision int8"));
    assert!(RungEngine::new(open(&tiny(), 1, RUNGS), Precision::F32).is_ok());

    let folder = tempfile::tempdir().unwrap();
    write_with_integer_neurons(folder.path(), &tiny(), 1, RUNGS, 48);
    let bundle = Arc::new(Bundle::open(folder.path()).unwrap());
    let source = IntegerEngineError::Selection { block: 0, structure: "neurons", fewest: 0, most: 48, found: 64 };
    let missing = RungEngineError::Rung { rung: 0, source };
    assert_eq!(RungEngine::new(bundle.clone(), Precision::Int8).unwrap_err(), missing);
    let engine = RungEngine::partial(bundle.clone(), Precision::Int8).unwrap();
    let pixels: Vec<f32> = noise(3, bundle.vit().pixels()).collect();
    assert_eq!(engine.check(0), Err(missing));
    assert_eq!(engine.infer(&mut engine.workspace(1), 0).unwrap_err(), RungEngineError::Int8(source));
    for rung in 1..RUNGS {
        assert_eq!(engine.check(rung), Ok(()));
        assert_eq!(run(&engine, 1, rung, &pixels), expected_in_int8(&bundle, rung, &pixels));
    }
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let bundle = Arc::new(open_with_integer_model(&tiny(), 1, RUNGS));
    let pixels: Vec<f32> = noise(3, bundle.vit().pixels()).collect();
    let engines =
        [Precision::F32, Precision::Int8].map(|precision| RungEngine::new(bundle.clone(), precision).unwrap());
    for (engine, other) in [(&engines[0], &engines[1]), (&engines[1], &engines[0])] {
        let mut workspace = engine.workspace(1);
        workspace.set_pixels(&pixels).unwrap();
        let before = engine.infer(&mut workspace, 0).unwrap().embedding.to_vec();
        let wrong = RungEngineError::Pixels { expected: pixels.len(), found: pixels.len() - 1 };
        assert_eq!(workspace.set_pixels(&pixels[1..]), Err(wrong));
        for refused in [engine.infer(&mut workspace, RUNGS).map(|_| ()), engine.check(RUNGS)] {
            assert!(matches!(refused, Err(RungEngineError::NoSuchRung(_))), "{refused:?}");
        }
        assert_eq!(other.infer(&mut workspace, 0).unwrap_err(), RungEngineError::Workspace);
        assert_eq!(engine.infer(&mut workspace, 0).unwrap().embedding, before);
    }
}

#[test]
fn an_integer_model_of_another_input_or_output_is_refused_with_its_bundle() {
    use headroom_device::bundle::BundleError;
    use headroom_device::integer::IntegerSource;
    use headroom_device::model::Corrections;
    let folder = tempfile::tempdir().unwrap();
    let own = Choices { grid: (3, 2), ..tiny() };
    write_with_integer_model(folder.path(), &own, 1, RUNGS);
    let bundle = Bundle::open(folder.path()).unwrap();
    let weights_sha256 = bundle.integer_model().unwrap().weights_sha256().try_into().unwrap();
    // Everything that the structure map knows is the same.
    let [square, turned] = [(2, 2), (2, 3)].map(|grid| Choices { grid, ..own.clone() });
    let [wide, other] = [(20, 3), (16, 4)].map(|(embed_dim, classes)| Choices { embed_dim, classes, ..own.clone() });
    for other in [square, turned, wide, other] {
        let (description, weights) = random_model::build(&other, 1);
        let source = IntegerSource {
            description: &description,
            weights: &weights,
            weights_sha256,
            corrections: &Corrections::default(),
            counts: &IntegerSource::all_counts(&description),
            original_ends: true,
        };
        random_bundle::replace_part(folder.path(), "model.int8", &source.convert().unwrap().write().unwrap());
        assert!(matches!(Bundle::open(folder.path()), Err(BundleError::OtherIntegerModel)));
    }
}
