//! Time of the forward pass on random models of real sizes.
//!
//! `cargo bench -p headroom-device --bench forward [-- NAME]`, best under `taskset -c 0`. Prints for
//! each model, batch, part of the structures kept and number of threads: the shortest and the median
//! milliseconds, and the GFLOP/s of the shortest (two for each multiply-accumulate of the products).
//! On a machine with other work the shortest time is the one to compare.

use std::time::{Duration, Instant};

use headroom_device::engine::ElasticVit;
use headroom_shared::KeptStructures;

#[path = "../tests/random_model/mod.rs"]
mod random_model;

use random_model::{Choices, Kept, build, noise};

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    let models = [
        ("cifar10_s", Choices::vit(8, 4, 192, 10, 6, 768), vec![1, 8, 32]),
        ("vit_s16", Choices { classes: 1000, ..Choices::vit(14, 16, 384, 12, 6, 1536) }, vec![1, 8]),
        ("vit_b16", Choices { classes: 1000, ..Choices::vit(14, 16, 768, 12, 12, 3072) }, vec![1]),
    ];
    println!(
        "{:>10} {:>5} {:>6} {:>7} {:>10} {:>10} {:>8}",
        "model", "batch", "kept", "threads", "shortest", "median", "GFLOP/s"
    );
    for (name, choices, batches) in models.iter().filter(|model| model.0.contains(&filter)) {
        let (description, weights) = build(choices, 1);
        let vit = ElasticVit::new(&description, &weights).expect("the random model is consistent");
        for &batch in batches {
            for (percent, threads) in [(100, 1), (100, 2), (50, 1), (50, 2)] {
                let kept = keep(choices, percent);
                let times = measure(&vit, batch, threads, &kept);
                let [shortest, median] = [0, times.len() / 2].map(|place| times[place].as_secs_f64());
                let flops = 2.0 * batch as f64 * macs(choices, &kept);
                println!(
                    "{name:>10} {batch:>5} {percent:>5}% {threads:>7} {:>10.3} {:>10.3} {:>8.1}",
                    shortest * 1e3,
                    median * 1e3,
                    flops / shortest / 1e9,
                );
            }
        }
    }
}

/// The first heads and neurons of every block, as many percent.
fn keep(choices: &Choices, percent: usize) -> Kept {
    let heads = (choices.heads * percent).div_ceil(100);
    Kept {
        heads: vec![(0..heads).collect(); choices.depth],
        neurons: vec![choices.neurons * percent / 100; choices.depth],
        ..Kept::all(choices)
    }
}

/// Multiply-accumulates of one image in its products.
fn macs(choices: &Choices, kept: &Kept) -> f64 {
    let patches = choices.grid.0 * choices.grid.1;
    let tokens = patches + 1;
    let blocks = (0..choices.depth).map(|block| {
        let attended = kept.heads(block) * choices.head_dim;
        let projections = 4 * tokens * choices.embed_dim * attended;
        let attention = 2 * tokens * tokens * attended;
        projections + attention + 2 * tokens * choices.embed_dim * kept.neurons(block)
    });
    let embedding = patches * choices.embed_dim * 3 * choices.patch * choices.patch;
    (blocks.sum::<usize>() + embedding + choices.embed_dim * choices.classes) as f64
}

/// Times of single passes over about a second, ascending.
fn measure(vit: &ElasticVit, batch: usize, threads: usize, kept: &Kept) -> Vec<Duration> {
    let mut workspace = vit.workspace_with_threads(batch, threads);
    let pixels: Vec<f32> = noise(7, batch * vit.pixels()).collect();
    let mut run = || {
        let start = Instant::now();
        let output = vit.forward(&mut workspace, &pixels, batch, kept).expect("the request fits");
        std::hint::black_box(output.pooled);
        start.elapsed()
    };
    run();
    let end = Instant::now() + Duration::from_secs(1);
    let mut times = Vec::new();
    while Instant::now() < end || times.len() < 5 {
        times.push(run());
    }
    times.sort();
    times
}
