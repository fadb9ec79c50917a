//! What a job expects to need of a device's memory, against what is allocated on the CPU.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use candle_core::{DType, Device};
use headroom_host::checkpoint::{Checkpoint, OpenOptions};
use headroom_host::demo;
use headroom_host::executor::CandleVit;
use headroom_host::executor::memory::{Held, needed};
use headroom_host::sensitivity;

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
fn importance_needs_what_is_expected_and_not_much_less() {
    let never = AtomicBool::new(false);
    let checkpoint = Checkpoint::from_bytes(demo::WEIGHTS, Some(demo::CONFIG), &OpenOptions::default()).unwrap();
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
