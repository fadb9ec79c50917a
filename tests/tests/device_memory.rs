//! What a job expects to need of a device's memory, against what is allocated on the CPU.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use candle_core::{DType, Device};
use headroom_host::checkpoint::{Checkpoint, OpenOptions};
use headroom_host::compensation::{self, Damping, Mode, Rungs};
use headroom_host::demo;
use headroom_host::embedder::GpuEmbedder;
use headroom_host::embedder::gpu::IN_FLIGHT;
use headroom_host::executor::CandleVit;
use headroom_host::executor::memory::{Held, Way, needed};
use headroom_host::sensitivity;
use headroom_host::shape::model_shape;
use headroom_shared::SubNetwork;
use headroom_shared::shape::MAX_BLOCKS;

/// The system's allocator, which knows how many bytes are in use and were at most.
struct Measuring;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Measuring {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller passes what `alloc` returned, which is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Measuring = Measuring;

/// The most bytes that were in use during `run`, on top of those before.
fn most_bytes(run: impl FnOnce()) -> u64 {
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    run();
    (MOST.load(Ordering::Relaxed) - before) as u64
}

/// One test alone, so that nothing else allocates meanwhile.
#[test]
fn stages_need_what_is_expected_and_not_much_less() {
    let checkpoint = Checkpoint::from_bytes(demo::WEIGHTS, Some(demo::CONFIG), &OpenOptions::default()).unwrap();
    importance(&checkpoint);
    embeddings(&checkpoint);
    tokens_of_rungs(&checkpoint);
}

/// On GPUs, whose operations f64 takes on the CPU, in twice as many bytes.
fn embeddings(checkpoint: &Checkpoint) {
    let (description, weights) = (&checkpoint.description, checkpoint.weights().unwrap());
    let image = &description.image;
    let shape = model_shape(checkpoint).unwrap();
    let kept = [(description.heads - 1, description.neurons - 8); MAX_BLOCKS];
    let kept = SubNetwork::from_counts(&shape, &kept[..description.blocks.len()]).unwrap();
    for images in [2, 16] {
        let pixels = vec![0.5; images * image.channels * image.height * image.width];
        let run = || {
            let models = [CandleVit::load(description, &weights, &Device::Cpu, DType::F64).unwrap()];
            GpuEmbedder::new(&models, &pixels, images).unwrap().embed_all(&[kept; IN_FLIGHT]).unwrap();
        };
        let found = (0..2).map(|_| most_bytes(run)).min().unwrap() / 2;
        let held = Held::Embeddings { images, sub_networks: IN_FLIGHT };
        let expected = needed(description, checkpoint.parameters(), held) + size_of_val(pixels.as_slice()) as u64;
        println!("embeddings of {images} images: {found} bytes, expected {expected}");
        assert!(found <= expected, "{images} images: {found} bytes, expected {expected}");
        assert!(2 * found > expected, "{images} images: {found} bytes, expected {expected}");
    }
}

/// What each further image needs; the rest does not grow.
fn tokens_of_rungs(checkpoint: &Checkpoint) {
    let never = AtomicBool::new(false);
    let (description, weights) = (&checkpoint.description, checkpoint.weights().unwrap());
    let image = &description.image;
    let shape = model_shape(checkpoint).unwrap();
    let blocks = description.blocks.len();
    let rung = |part: usize| {
        let counts = vec![(description.heads - part, description.neurons - 64 * part); blocks];
        SubNetwork::from_counts(&shape, &counts).unwrap()
    };
    let sub_networks = [rung(0), rung(1), rung(2)];
    let model = CandleVit::load(description, &weights, &Device::Cpu, DType::F32).unwrap();
    let mode = Mode::Sequential;
    // Each thread has tokens on their way, however many this machine has.
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let most = |images: usize| {
        let values = images * image.channels * image.height * image.width;
        let pixels: Vec<f32> = (0..values).map(|at| (at as f32 * 1.7).sin() + (at as f32 * 0.37).cos()).collect();
        let rungs = Rungs { sub_networks: &sub_networks, corrected: &[1, 2], chosen: &[1, 2] };
        let options = compensation::Options { mode, feedback: 1.0, damping: Damping::Mean, interrupt: &never };
        let fit = || drop(compensation::fit(&model, rungs, &pixels, options, &|_| ()).unwrap());
        let found = most_bytes(|| one_thread.install(fit));
        let way = Way { tokens_together: compensation::tokens_together(&Device::Cpu), threads: 1 };
        let (rungs, inputs) = compensation::rungs_held(mode, 2);
        let held = Held::RungTokens { images, rungs, inputs, way };
        (found, needed(description, 0, held))
    };
    // Threads make buffers in their first run, which they keep.
    most(16);
    let (few, many) = (most(32), most(96));
    let (found, expected) = ((many.0 - few.0) / 64, (many.1 - few.1) / 64);
    println!("tokens of rungs: {found} bytes for each image, expected {expected}");
    assert!(found <= expected, "tokens of rungs: {found} bytes for each image, expected {expected}");
    assert!(2 * found > expected, "tokens of rungs: {found} bytes for each image, expected {expected}");
}

fn importance(checkpoint: &Checkpoint) {
    let never = AtomicBool::new(false);
    let (description, weights) = (&checkpoint.description, checkpoint.weights().unwrap());
    let image = &description.image;
    for images in [1, 4, 16] {
        let pixels = vec![0.5; images * image.channels * image.height * image.width];
        let options = sensitivity::Options { probes: 2, seed: 0, images_together: Some(images), interrupt: &never };
        let run = || {
            let model = CandleVit::load(description, &weights, &Device::Cpu, DType::F32).unwrap();
            sensitivity::estimate(&[model], &pixels, options, &|_| ()).unwrap();
        };
        // The least of some runs: threads make buffers for matrix products in their first one, which they keep.
        let found = (0..6).map(|_| most_bytes(run)).min().unwrap();
        let expected = needed(description, checkpoint.parameters(), Held::Gradients { images });
        println!("{images} images: {found} bytes, expected {expected}");
        assert!(found <= expected, "{images} images: {found} bytes, expected {expected}");
        assert!(2 * found > expected, "{images} images: {found} bytes, expected {expected}");
    }
}
