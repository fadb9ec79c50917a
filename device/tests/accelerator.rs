//! Rungs on another processor than the CPU: one that stands for a GPU, and computes with the CPU engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use headroom_device::bundle::Bundle;
use headroom_device::engine::ElasticVit;
use headroom_device::model::Weights;
use headroom_device::precision::Precision;
use headroom_device::rung_engine::{
    Accelerator, AcceleratorError, AcceleratorOutput, OpenAccelerator, RungEngine, RungEngineError,
};
use headroom_device::runtime::{Frame, Refusal, Runtime, RuntimeError, WhenFull};
use headroom_device::switch::RungTable;
use headroom_shared::SubNetwork;

mod random_bundle;
mod random_model;

use random_bundle::{open, tiny};
use random_model::noise;

const RUNGS: usize = 4;

#[derive(Debug, thiserror::Error)]
#[error("the processor is too hot")]
struct TooHot;

/// What a made-up processor does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Opening,
    Inferring,
    PanickingAtFirst,
}

struct MadeUp {
    vit: ElasticVit,
    rungs: Vec<SubNetwork>,
    fault: Fault,
}

impl Accelerator for MadeUp {
    fn name(&self) -> &str {
        "a made-up processor"
    }

    fn infer(&mut self, pixels: &[f32], rung: usize, output: &mut AcceleratorOutput) -> Result<(), AcceleratorError> {
        assert!(self.fault != Fault::PanickingAtFirst, "on purpose");
        if self.fault == Fault::Inferring {
            return Err(AcceleratorError::new(TooHot, Some("wait")));
        }
        let mut workspace = self.vit.workspace(1);
        let found = self.vit.embed(&mut workspace, pixels, 1, &self.rungs[rung]).unwrap();
        output.embedding = found.pooled.to_vec();
        output.logits = found.logits.unwrap_or_default().to_vec();
        Ok(())
    }
}

/// Opens the processor, and counts how often.
fn made_up(fault: Fault, opened: &Arc<AtomicUsize>) -> Arc<OpenAccelerator> {
    let opened = opened.clone();
    Arc::new(move |bundle| {
        let before = opened.fetch_add(1, Ordering::Relaxed);
        let fault = if fault == Fault::PanickingAtFirst && before > 0 { Fault::None } else { fault };
        if fault == Fault::Opening {
            return Err(AcceleratorError::new(TooHot, Some("wait")));
        }
        // The bundle's own engine cannot leave it: the weights are made again, as they were for the bundle.
        let (description, weights): (_, Weights) = random_model::build(&tiny(), seed_of(bundle));
        let vit = ElasticVit::new(&description, &weights).unwrap();
        let rungs = RungTable::new(&bundle.structure_map()).sub_networks().to_vec();
        Ok(Box::new(MadeUp { vit, rungs, fault }))
    })
}

/// What the weights of a bundle were made from: 1 or 2.
fn seed_of(bundle: &Bundle) -> u64 {
    if bundle.hash() == open(&tiny(), 1, RUNGS).hash() { 1 } else { 2 }
}

fn pixels(bundle: &Bundle) -> Vec<f32> {
    noise(3, bundle.vit().pixels()).collect()
}

fn expected(bundle: &Bundle, rung: usize) -> Vec<f32> {
    let engine = RungEngine::f32(open(&tiny(), seed_of(bundle), RUNGS));
    let mut workspace = engine.workspace(1);
    workspace.set_pixels(&pixels(bundle)).unwrap();
    engine.infer(&mut workspace, rung).unwrap().embedding.to_vec()
}

#[test]
fn every_rung_gives_what_the_processor_computes() {
    let opened = Arc::default();
    let engine = RungEngine::accelerated(open(&tiny(), 1, RUNGS), made_up(Fault::None, &opened)).unwrap();
    assert_eq!(engine.precision(), Precision::F16);
    assert_eq!(engine.accelerator(), Some("a made-up processor"));
    assert_eq!(engine.execution(7).threads, 1);
    let bundle = engine.bundle().clone();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut workspace = engine.workspace(4);
                workspace.set_pixels(&pixels(&bundle)).unwrap();
                for rung in 0..RUNGS {
                    let found = engine.infer(&mut workspace, rung).unwrap();
                    assert_eq!(found.embedding, expected(&bundle, rung));
                    assert!(found.logits.is_some());
                }
                assert!(matches!(engine.infer(&mut workspace, RUNGS), Err(RungEngineError::NoSuchRung(_))));
                let short = workspace.set_pixels(&[0.0]);
                assert!(matches!(short, Err(RungEngineError::Pixels { found: 1, .. })), "{short:?}");
            });
        }
    });
    let mut other = RungEngine::f32(bundle).workspace(1);
    assert_eq!(engine.infer(&mut other, 0).unwrap_err(), RungEngineError::Workspace);
    assert_eq!(opened.load(Ordering::Relaxed), 1);
}

#[test]
fn a_service_runs_on_it_and_so_does_the_bundle_that_comes_next() {
    let opened = Arc::default();
    let engine = RungEngine::accelerated(open(&tiny(), 1, RUNGS), made_up(Fault::None, &opened)).unwrap();
    let runtime = Runtime::builder_with(engine).workers(2).start().unwrap();
    assert_eq!(runtime.precision(), Precision::F16);
    for seed in [1, 2] {
        if seed == 2 {
            runtime.replace_bundle(open(&tiny(), 2, RUNGS)).unwrap();
        }
        let bundle = runtime.bundle();
        let reply = runtime.infer(Frame::Pixels(pixels(&bundle))).unwrap();
        assert_eq!(reply.embedding, expected(&bundle, usize::from(reply.rung)));
    }
    assert_eq!(opened.load(Ordering::Relaxed), 2);
}

#[test]
fn what_it_cannot_is_said() {
    let opened = Arc::default();
    let engine = |fault| RungEngine::accelerated(open(&tiny(), 1, RUNGS), made_up(fault, &opened));
    let error = engine(Fault::Opening).unwrap_err();
    assert_eq!((error.to_string().as_str(), error.hint()), ("the processor is too hot", Some("wait")));

    let engine = engine(Fault::Inferring).unwrap();
    let mut workspace = engine.workspace(1);
    for _ in 0..2 {
        let error = engine.infer(&mut workspace, 0).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.hint()), ("the processor is too hot", Some("wait")));
    }
    let runtime = Runtime::builder_with(engine).start();
    assert!(matches!(runtime, Err(RuntimeError::Engine(RungEngineError::Accelerator(_)))), "it cannot be timed");

    let engine = RungEngine::accelerated(open(&tiny(), 1, RUNGS), made_up(Fault::Inferring, &opened)).unwrap();
    let ladder = |engine: &RungEngine| Ok(headroom_device::runtime::profile::from_ladder(engine.bundle()));
    let runtime = Runtime::builder_with(engine).profiler(ladder).start().unwrap();
    let pixels = pixels(&runtime.bundle());
    let refusal = runtime.client(WhenFull::Wait).infer(Frame::Pixels(pixels)).unwrap_err();
    assert!(matches!(refusal, Refusal::Engine(RungEngineError::Accelerator(_))), "{refusal:?}");
}

#[test]
fn a_panic_takes_its_own_inference_along_and_the_processor_is_opened_again() {
    let opened = Arc::default();
    let engine = RungEngine::accelerated(open(&tiny(), 1, RUNGS), made_up(Fault::PanickingAtFirst, &opened)).unwrap();
    let bundle = engine.bundle().clone();
    let mut workspace = engine.workspace(1);
    workspace.set_pixels(&pixels(&bundle)).unwrap();
    let error = engine.infer(&mut workspace, 0).unwrap_err();
    assert_eq!(error.to_string(), "the thread of the accelerator has ended");
    // Its input went with it.
    workspace.set_pixels(&pixels(&bundle)).unwrap();
    assert_eq!(engine.infer(&mut workspace, 0).unwrap().embedding, expected(&bundle, 0));
    assert_eq!(opened.load(Ordering::Relaxed), 2);
}

#[test]
fn no_engine_of_the_cpu_computes_in_f16() {
    let error = RungEngine::new(open(&tiny(), 1, RUNGS), Precision::F16).unwrap_err();
    assert_eq!(error, RungEngineError::NoHalfPrecision);
    assert!(error.hint().unwrap().contains("--device cuda"));
}
