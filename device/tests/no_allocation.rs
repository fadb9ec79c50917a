//! The steady state allocates nothing: counted by the allocator of this test program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use headroom_device::engine::{Corrected, ElasticVit};
use headroom_device::integer::{IntegerOutput, IntegerSource, PackedIntegerVit};
use headroom_device::model::corrections::{BlockCorrection, Correction, CorrectionGroup, Corrections};
use headroom_device::model::weights::Tensor;
use headroom_device::sources::Sensors;
use headroom_shared::{BoardProfile, IntegerModel, TimeSpan, board_file};

mod random_model;
#[path = "../../tests/trees/mod.rs"]
mod trees;

use random_model::{Choices, HeadChoice, Kept, PoolingChoice, build, noise};
use trees::FakeTree;

/// The system's allocator, counting the calls of all threads.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

fn count() {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller passes what `alloc` returned, which is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller passes what `alloc` returned, which is the system's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> usize {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// Without it the test below would prove nothing.
fn assert_that_the_counter_counts() {
    let before = allocations();
    std::hint::black_box(vec![1_u8; 100]);
    assert_eq!(allocations(), before + 1);
    std::thread::scope(|scope| scope.spawn(|| std::hint::black_box(vec![1_u8; 100])).join().unwrap());
    assert!(allocations() >= before + 3, "other threads count too");
}

/// Random corrections of two rungs.
fn corrections(choices: &Choices) -> Corrections {
    let tensor = |rows: usize, columns: usize| Tensor {
        shape: vec![rows, columns],
        data: noise((rows * columns) as u64, rows * columns).collect(),
    };
    let correction =
        |inputs: usize| Correction { weight: tensor(choices.embed_dim, inputs), biases: tensor(2, choices.embed_dim) };
    let block =
        BlockCorrection { projection: correction(choices.heads * choices.head_dim), down: correction(choices.neurons) };
    Corrections { groups: vec![CorrectionGroup { rungs: vec![1, 2], blocks: vec![block; choices.depth] }] }
}

/// Threads that have just been started allocate in the standard library before they run.
fn wait_for_threads() {
    let mut last = (allocations(), 0);
    while last.1 < 20 {
        std::thread::sleep(std::time::Duration::from_millis(1));
        let now = allocations();
        last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
    }
}

/// The only test of this program: another one's allocations would count too.
#[test]
fn the_steady_state_allocates_nothing() {
    assert_that_the_counter_counts();
    forward_passes_and_switches_allocate_nothing();
    integer_passes_allocate_nothing();
    passes_over_the_sensors_allocate_nothing();
}

fn forward_passes_and_switches_allocate_nothing() {
    let plain = Choices::vit(3, 4, 36, 2, 3, 40);
    let poolings = [
        (PoolingChoice::Class, HeadChoice::Linear),
        (PoolingChoice::ClassThenNorm, HeadChoice::None),
        (PoolingChoice::ClassDenseTanh, HeadChoice::ClassAndPatchMean),
        (PoolingChoice::MeanClassDistillation, HeadChoice::AverageOfTwo),
        (PoolingChoice::MeanPatchesThenNorm, HeadChoice::Linear),
        (PoolingChoice::Attention { heads: 2 }, HeadChoice::Linear),
    ];
    for (pooling, head) in poolings {
        let choices = Choices { pooling, head, pre_norm: true, ..plain.clone() };
        let (description, weights) = build(&choices, 1);
        let vit = ElasticVit::new(&description, &weights).unwrap().with_corrections(&corrections(&choices)).unwrap();
        let pixels: Vec<f32> = noise(2, 4 * vit.pixels()).collect();
        let all = Kept::all(&choices);
        let some = Kept {
            heads: vec![vec![0, 2], vec![]],
            neurons: vec![17, 0],
            value_dims: vec![5, 12],
            query_dims: vec![12, 7],
            merged_tokens: vec![3, 2],
        };
        for threads in [1, 3] {
            let mut workspace = vit.workspace_with_threads(4, threads);
            wait_for_threads();
            let before = allocations();
            // The first pass already counts: the workspace is complete when it is made.
            let passes =
                [(4, &all, None), (1, &some, Some(1)), (3, &some, Some(0)), (2, &some, None), (4, &all, Some(1))];
            for (batch, kept, correction) in passes {
                let kept = Corrected { kept, correction };
                vit.forward(&mut workspace, &pixels[..batch * vit.pixels()], batch, &kept).unwrap();
                vit.embed(&mut workspace, &pixels[..batch * vit.pixels()], batch, &kept).unwrap();
            }
            assert_eq!(allocations(), before, "{pooling:?} {head:?} {threads} threads");
        }
    }
}

fn integer_passes_allocate_nothing() {
    let choices = Choices::vit(3, 4, 36, 2, 3, 40);
    let (description, weights) = build(&choices, 1);
    let corrections = corrections(&choices);
    let source = IntegerSource {
        description: &description,
        weights: &weights,
        weights_sha256: [0; 32],
        corrections: &corrections,
        counts: &IntegerSource::all_counts(&description),
        original_ends: true,
    };
    let file = source.convert().unwrap().write().unwrap();
    let model = IntegerModel::read(&file).unwrap();
    let frame = vec![7; model.sizes().frame_bytes()];
    let all = Kept::all(&choices);
    let some = Kept { heads: vec![vec![0, 1], vec![]], neurons: vec![17, 0], ..all.clone() };
    for threads in [1, 3] {
        let mut vit = PackedIntegerVit::with_threads(model, threads);
        let mut embedding = vec![0.0; model.sizes().embed_dim];
        wait_for_threads();
        let before = allocations();
        for (kept, correction) in [(&all, None), (&some, Some(0)), (&some, None), (&all, Some(0))] {
            let output = IntegerOutput { embedding: Some(&mut embedding), ..IntegerOutput::default() };
            vit.infer(&frame, &Corrected { kept, correction }, output).unwrap();
        }
        assert_eq!(allocations(), before, "{threads} threads");
    }
}

fn orin_nano() -> BoardProfile {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../boards/jetson-orin-nano/board.toml");
    board_file::parse(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn passes_over_the_sensors_allocate_nothing() {
    let profile = orin_nano();
    for board in trees::BOARDS {
        let tree = FakeTree::of(board);
        let mut sensors = Sensors::discover(tree.root(), Some(&profile).filter(|_| board.contains("nano")));
        let before = allocations();
        // Within the first period, in which nothing is looked for again.
        for milliseconds in [0, 100, 400, 900] {
            let now = TimeSpan::from_nanoseconds(milliseconds * 1_000_000);
            std::hint::black_box(sensors.read(now));
            std::hint::black_box(sensors.read_everything(now));
        }
        assert_eq!(allocations(), before, "{board}");
    }
}
