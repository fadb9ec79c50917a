//! The runtime as an application uses it: every request is answered once, whatever happens meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use headroom_device::bundle::Bundle;
use headroom_device::governor::{Deadline, Limits, RungProfile};
use headroom_device::precision::Precision;
use headroom_device::reading::SensorReading;
use headroom_device::rung_engine::{RungEngine, RungEngineError};
use headroom_device::runtime::{Answer, Event, Frame, Refusal, Runtime, RuntimeError, WhenFull, profile};
use headroom_device::switch::RungTable;
use headroom_shared::TimeSpan;

mod random_bundle;
mod random_model;

use random_bundle::{open, open_with_integer_model, tiny, write_with_integer_neurons};
use random_model::{Choices, noise};

fn frame(bundle: &Bundle, seed: u64) -> Frame {
    Frame::Pixels(noise(seed, bundle.vit().pixels()).collect())
}

/// The latencies of the ladder, so that decisions do not depend on the machine.
fn ladder(engine: &RungEngine) -> Result<Vec<RungProfile>, RungEngineError> {
    Ok(profile::from_ladder(engine.bundle()))
}

/// A deadline that nothing meets: the smallest rung is the best that there is.
fn impossible() -> Limits {
    let latency = TimeSpan::from_nanoseconds(1);
    Limits { deadline: Some(Deadline { latency, miss_rate: 0.01 }), ..Limits::default() }
}

/// What the engine computes at one rung, without a runtime.
fn expected(bundle: &Bundle, rung: usize, frame: &Frame) -> Vec<f32> {
    let Frame::Pixels(pixels) = frame else { panic!("pixels") };
    let table = RungTable::new(&bundle.structure_map());
    let kept = bundle.corrected(rung, table.get(rung).unwrap());
    bundle.vit().forward(&mut bundle.vit().workspace(1), pixels, 1, &kept).unwrap().pooled.to_vec()
}

/// A gate that keeps workers inside an answer until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
    }
}

/// Keeps the only worker busy until the gate opens.
fn hold_worker(runtime: &Runtime) -> Gate {
    let gate = Gate::default();
    let (held, holding) = mpsc::channel();
    let inside = gate.clone();
    runtime.client(WhenFull::Wait).infer(frame(&runtime.bundle(), 0)).unwrap();
    let client = runtime.client(WhenFull::Wait);
    client.submit(frame(&runtime.bundle(), 0), move |answer| {
        held.send(answer.is_ok()).unwrap();
        inside.pass();
    });
    assert!(holding.recv().unwrap());
    gate
}

/// Sends a frame whose answer arrives at the receiver.
fn send(client: &headroom_device::runtime::Client, frame: Frame) -> mpsc::Receiver<Answer> {
    let (sender, receiver) = mpsc::channel();
    client.submit(frame, move |answer| sender.send(answer).unwrap());
    receiver
}

#[test]
fn replies_are_those_of_the_engine_with_rung_and_fidelity() {
    let runtime = Runtime::builder(open(&tiny(), 1, 4)).profiler(ladder).start().unwrap();
    let bundle = runtime.bundle();
    let frame = frame(&bundle, 7);
    let reply = runtime.infer(frame.clone()).unwrap();
    assert_eq!(reply.rung, 0);
    assert_eq!(reply.embedding, expected(&bundle, 0, &frame));
    assert_eq!(reply.logits.as_ref().map(Vec::len), Some(3));
    assert!((reply.fidelity - 1.0).abs() < 1e-6);
    assert_eq!(reply.macs, bundle.structure_map().rungs()[0].macs);
    assert!(reply.latency.as_nanoseconds() > 0);
    assert!(Arc::ptr_eq(&reply.bundle, &bundle));
}

#[test]
fn in_int8_all_workers_give_what_the_engine_gives_and_bundles_that_cannot_are_refused() {
    let engine = RungEngine::new(open_with_integer_model(&tiny(), 1, 4), Precision::Int8).unwrap();
    let runtime = Runtime::builder_with(engine).profiler(ladder).workers(3).threads(2).start().unwrap();
    let expected = |bundle: &Arc<Bundle>, rung: u8, frame: &Frame| {
        let Frame::Pixels(pixels) = frame else { panic!("pixels") };
        let engine = RungEngine::new(bundle.clone(), Precision::Int8).unwrap();
        let mut workspace = engine.workspace(1);
        workspace.set_pixels(pixels).unwrap();
        engine.infer(&mut workspace, rung.into()).unwrap().embedding.to_vec()
    };
    let first = runtime.bundle();
    let ask = |seeds: std::ops::Range<u64>| -> Vec<(Frame, headroom_device::runtime::Reply)> {
        std::thread::scope(|scope| {
            let asked: Vec<_> = seeds
                .map(|seed| {
                    let (runtime, frame) = (&runtime, frame(&first, seed));
                    scope.spawn(move || (frame.clone(), runtime.infer(frame).unwrap()))
                })
                .collect();
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    };
    let check = |rung: u8, seeds: std::ops::Range<u64>| {
        for (frame, reply) in ask(seeds) {
            assert_eq!(reply.rung, rung);
            assert_eq!(reply.embedding, expected(&reply.bundle, rung, &frame));
            assert_ne!(reply.embedding, self::expected(&reply.bundle, rung.into(), &frame), "it ran in f32");
        }
    };
    check(0, 0..12);
    runtime.set_limits(impossible()).unwrap();
    check(3, 12..24);

    let refused = runtime.replace_bundle(open(&tiny(), 2, 4)).unwrap_err();
    assert!(matches!(refused, RuntimeError::Engine(RungEngineError::NoIntegerModel)), "{refused:?}");
    let folder = tempfile::tempdir().unwrap();
    write_with_integer_neurons(folder.path(), &tiny(), 2, 4, 48);
    let refused = runtime.replace_bundle(Bundle::open(folder.path()).unwrap()).unwrap_err();
    assert!(matches!(refused, RuntimeError::Engine(RungEngineError::Rung { rung: 0, .. })), "{refused:?}");
    assert!(Arc::ptr_eq(&runtime.bundle(), &first));
    check(3, 24..26);
    runtime.replace_bundle(open_with_integer_model(&tiny(), 3, 3)).unwrap();
    assert!(!Arc::ptr_eq(&runtime.bundle(), &first));
    check(2, 26..28);
}

#[test]
fn limits_take_effect_at_the_next_inference() {
    let runtime = Runtime::builder(open(&tiny(), 1, 4)).profiler(ladder).start().unwrap();
    let bundle = runtime.bundle();
    let frame = frame(&bundle, 3);
    assert_eq!(runtime.infer(frame.clone()).unwrap().rung, 0);
    runtime.set_limits(impossible()).unwrap();
    assert_eq!(runtime.limits(), impossible());
    let reply = runtime.infer(frame.clone()).unwrap();
    assert_eq!(reply.rung, 3);
    assert_eq!(reply.embedding, expected(&bundle, reply.rung.into(), &frame));
}

#[test]
fn the_newest_frame_of_a_camera_wins_and_the_older_one_is_told() {
    let runtime = Runtime::builder(open(&tiny(), 1, 2)).profiler(ladder).start().unwrap();
    let gate = hold_worker(&runtime);
    let (camera, other) = (runtime.client(WhenFull::DropOldest), runtime.client(WhenFull::DropOldest));
    let bundle = runtime.bundle();
    let undisturbed = send(&other, frame(&bundle, 9));
    let [first, second, third] = [1, 2, 3].map(|seed| send(&camera, frame(&bundle, seed)));
    assert_eq!(first.recv().unwrap().unwrap_err(), Refusal::Dropped);
    assert_eq!(second.recv().unwrap().unwrap_err(), Refusal::Dropped);
    gate.open();
    assert_eq!(third.recv().unwrap().unwrap().embedding, expected(&bundle, 0, &frame(&bundle, 3)));
    assert!(undisturbed.recv().unwrap().is_ok());
}

#[test]
fn a_full_queue_refuses_whoever_does_not_wait() {
    let runtime = Runtime::builder(open(&tiny(), 1, 2)).profiler(ladder).queue_capacity(2).start().unwrap();
    let gate = hold_worker(&runtime);
    let client = runtime.client(WhenFull::Refuse).with_most_waiting(8);
    let bundle = runtime.bundle();
    let answers = [1, 2, 3].map(|seed| send(&client, frame(&bundle, seed)));
    assert_eq!(answers[2].recv().unwrap().unwrap_err(), Refusal::QueueFull);
    assert_eq!(runtime.waiting(), 2);
    gate.open();
    assert!(answers[0].recv().unwrap().is_ok() && answers[1].recv().unwrap().is_ok());
}

#[test]
fn shutting_down_answers_everything() {
    let runtime = Runtime::builder(open(&tiny(), 1, 2)).profiler(ladder).workers(2).start().unwrap();
    let bundle = runtime.bundle();
    let answered = Arc::new(AtomicUsize::new(0));
    let client = runtime.client(WhenFull::Refuse).with_most_waiting(1000);
    for seed in 0..200 {
        let answered = answered.clone();
        client.submit(frame(&bundle, seed), move |answer| {
            assert!(matches!(answer, Ok(_) | Err(Refusal::ShuttingDown | Refusal::QueueFull)));
            answered.fetch_add(1, Ordering::Relaxed);
        });
    }
    runtime.shut_down();
    assert_eq!(answered.load(Ordering::Relaxed), 200);
    assert_eq!(client.infer(frame(&bundle, 0)).unwrap_err(), Refusal::ShuttingDown);
}

#[test]
fn a_client_that_leaves_is_told_what_it_leaves_behind() {
    let runtime = Runtime::builder(open(&tiny(), 1, 2)).profiler(ladder).start().unwrap();
    let gate = hold_worker(&runtime);
    let client = runtime.client(WhenFull::Refuse);
    let answer = send(&client, frame(&runtime.bundle(), 1));
    drop(client);
    assert_eq!(answer.recv().unwrap().unwrap_err(), Refusal::ShuttingDown);
    gate.open();
}

/// Clients send all the time while bundles are replaced: each reply is of one bundle, entirely, and none is lost.
#[test]
fn bundles_are_replaced_without_losing_or_mixing_anything() {
    let runtime = Runtime::builder(open(&tiny(), 0, 3)).profiler(ladder).workers(2).start().unwrap();
    let bundles: Vec<Bundle> = (1..20).map(|seed| open(&tiny(), seed, 2 + seed as usize % 3)).collect();
    let pixels = frame(&runtime.bundle(), 5);
    let done = AtomicUsize::new(0);
    let replies = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while done.load(Ordering::Relaxed) == 0 {
                    replies.lock().unwrap().push(runtime.infer(pixels.clone()).unwrap());
                }
            });
        }
        for bundle in bundles {
            let before = replies.lock().unwrap().len();
            runtime.replace_bundle(bundle).unwrap();
            while replies.lock().unwrap().len() < before + 3 {
                std::thread::yield_now();
            }
        }
        done.store(1, Ordering::Relaxed);
    });
    let replies = replies.into_inner().unwrap();
    let hashes: std::collections::BTreeSet<_> = replies.iter().map(|reply| reply.bundle.hash().to_owned()).collect();
    assert!(hashes.len() >= 19, "only {} bundles ran", hashes.len());
    for reply in &replies {
        assert_eq!(reply.embedding, expected(&reply.bundle, reply.rung.into(), &pixels));
    }
}

#[test]
fn pixels_for_another_input_size_are_refused_and_images_are_not() {
    let runtime = Runtime::builder(open(&tiny(), 1, 2)).profiler(ladder).start().unwrap();
    let old = frame(&runtime.bundle(), 1);
    runtime.replace_bundle(open(&Choices::vit(3, 4, 16, 2, 2, 32), 2, 2)).unwrap();
    let refusal = runtime.infer(old).unwrap_err();
    assert!(matches!(refusal, Refusal::Engine(_)), "{refusal:?}");
    let image = headroom_device::images::SyntheticFrames::new(0, 30, 40).frame(0);
    assert!(runtime.infer(Frame::Rgb(image)).is_ok());
}

/// Here because its profile is empty.
#[test]
fn a_bundle_that_cannot_be_governed_is_refused() {
    let profiler = |engine: &RungEngine| {
        let profile = profile::from_ladder(engine.bundle());
        Ok(if profile.len() == 3 { Vec::new() } else { profile })
    };
    let runtime = Runtime::builder(open(&tiny(), 1, 2)).profiler(profiler).start().unwrap();
    let old = runtime.bundle();
    assert!(runtime.replace_bundle(open(&tiny(), 2, 3)).is_err());
    let reply = runtime.infer(frame(&old, 1)).unwrap();
    assert!(Arc::ptr_eq(&reply.bundle, &old));
    assert!(Runtime::builder(open(&tiny(), 2, 3)).profiler(profiler).start().is_err());
}

#[test]
fn watchers_see_what_happens() {
    let (sender, events) = mpsc::channel();
    let runtime = Runtime::builder(open(&tiny(), 1, 2))
        .profiler(ladder)
        .sensors(|_| SensorReading::ABSENT)
        .sensor_period(Duration::from_millis(1))
        .observer(move |event| {
            // Whoever watches the end has gone before the runtime.
            let _ = sender.send(match event {
                Event::BundleServes { profile, .. } => format!("serves {} rungs", profile.len()),
                Event::Decided { reading, .. } if reading.sensors.is_some() => "sensors".into(),
                Event::Decided { reading, .. } if reading.inference.is_some() => "inference".into(),
                Event::Answered(reply) => format!("answered at {}", reply.rung),
                Event::LimitsHold(_) => "limits".into(),
                _ => "other".into(),
            });
        })
        .start()
        .unwrap();
    runtime.infer(frame(&runtime.bundle(), 1)).unwrap();
    runtime.set_limits(impossible()).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert!(runtime.health().longest_inference.is_none());
    // The observer, and with it the sender, goes with the runtime.
    drop(runtime);
    let seen: Vec<String> = events.iter().collect();
    assert_eq!(seen[0], "serves 2 rungs");
    for expected in ["inference", "answered at 0", "limits"] {
        assert_eq!(seen.iter().filter(|seen| *seen == expected).count(), 1, "{expected} in {seen:?}");
    }
    assert!(seen.iter().filter(|seen| *seen == "sensors").count() > 2, "{seen:?}");
}

#[test]
fn rungs_are_timed_where_the_ladder_only_predicts() {
    let engine = RungEngine::f32(open(&tiny(), 1, 6));
    let timed = profile::timed(&engine, 1, Duration::from_millis(50)).unwrap();
    let predicted = profile::from_ladder(engine.bundle());
    assert_eq!(timed.len(), 6);
    for (timed, predicted) in timed.iter().zip(&predicted) {
        // The prediction is milliseconds, and this model takes microseconds.
        assert!(timed.latency < predicted.latency);
        assert!(timed.energy < predicted.energy);
    }
    assert!(timed.windows(2).all(|pair| pair[0].latency >= pair[1].latency));
}

/// Here in an observer, which is not the runtime's own code.
#[test]
fn a_panic_loses_its_own_request_only() {
    let poisoned = Arc::new(AtomicUsize::new(0));
    let counter = poisoned.clone();
    let runtime = Runtime::builder(open(&tiny(), 1, 2))
        .profiler(ladder)
        .observer(move |event| {
            assert!(!matches!(event, Event::Answered(_)) || counter.fetch_add(1, Ordering::Relaxed) != 1, "the second");
        })
        .start()
        .unwrap();
    let bundle = runtime.bundle();
    let answers = [1, 2, 3].map(|seed| runtime.infer(frame(&bundle, seed)));
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert_eq!(answers[1].as_ref().unwrap_err(), &Refusal::Lost);
}
