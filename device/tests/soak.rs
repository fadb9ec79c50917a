//! Switching and serving for long: nothing is allocated at a switch, and nothing grows.
//!
//! One test, so that no other allocates meanwhile.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};

use headroom_device::bundle::Bundle;
use headroom_device::governor::{Deadline, Limits};
use headroom_device::runtime::{Frame, Runtime, profile};
use headroom_device::switch::RungTable;
use headroom_shared::TimeSpan;

mod random_bundle;
mod random_model;

use random_bundle::{open, tiny};
use random_model::noise;

/// The system's allocator, counting the bytes that are in use, and the calls of each thread.
struct Counting;

static IN_USE: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    IN_USE.fetch_add(bytes, Ordering::Relaxed);
    if bytes > 0 {
        // A thread that is ending has no counter any more.
        let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller passes what `alloc` returned, which is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RUNGS: usize = 4;
const SWITCHES: usize = 1_000_000;
const REQUESTS: usize = 20_000;

#[test]
fn a_million_switches_and_many_requests_leave_memory_as_it_was() {
    let bundle = open(&tiny(), 1, RUNGS);
    switch_and_infer(&bundle);
    serve_under_changing_limits(bundle);
}

/// Every inference runs the rung that was published last, and none allocates.
fn switch_and_infer(bundle: &Bundle) {
    let table = RungTable::new(&bundle.structure_map());
    let active = table.active();
    let mut workspace = bundle.vit().workspace(1);
    let pixels: Vec<f32> = noise(2, bundle.vit().pixels()).collect();
    let mut infer = || {
        let rung = active.get();
        let kept = bundle.corrected(rung, &table.sub_networks()[rung]);
        let output = bundle.vit().forward(&mut workspace, &pixels, 1, &kept).unwrap();
        output.pooled[0].to_bits()
    };
    let mut expected = [0; RUNGS];
    for (rung, expected) in expected.iter_mut().enumerate() {
        active.set(rung).unwrap();
        *expected = infer();
    }
    assert!(expected.windows(2).all(|pair| pair[0] != pair[1]), "rungs cannot be told apart");
    let before = CALLS.get();
    for switch in 0..SWITCHES {
        let rung = switch % RUNGS;
        active.set(rung).unwrap();
        assert_eq!(infer(), expected[rung]);
    }
    assert_eq!(CALLS.get(), before, "allocations in {SWITCHES} switches");
}

/// The runtime's queue, answers and decisions come and go; what is in use afterwards is what was before.
fn serve_under_changing_limits(bundle: Bundle) {
    let runtime =
        Runtime::builder(bundle).profiler(|engine| Ok(profile::from_ladder(engine.bundle()))).start().unwrap();
    let pixels: Vec<f32> = noise(3, runtime.bundle().vit().pixels()).collect();
    let serve = |requests: usize| {
        let mut rungs = [0; RUNGS];
        for request in 0..requests {
            // No limit, or one that nothing meets: the dense rung and the smallest in turn.
            let latency = TimeSpan::from_nanoseconds(1);
            let deadline = (request % 2 == 1).then_some(Deadline { latency, miss_rate: 0.01 });
            runtime.set_limits(Limits { deadline, ..Limits::default() }).unwrap();
            rungs[usize::from(runtime.infer(Frame::Pixels(pixels.clone())).unwrap().rung)] += 1;
        }
        rungs
    };
    serve(1000);
    let before = IN_USE.load(Ordering::Relaxed);
    let rungs = serve(REQUESTS);
    let grown = IN_USE.load(Ordering::Relaxed) - before;
    assert_eq!([rungs[0], rungs[RUNGS - 1]], [REQUESTS / 2; 2], "a switch took longer than to the next inference");
    // An answer may still be on its way out of its worker; a leak of one byte a request would be more.
    assert!(grown < REQUESTS as isize / 4, "{grown} bytes more are in use");
}
