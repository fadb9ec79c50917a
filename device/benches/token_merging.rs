//! What merging tokens saves in time: rungs with a token schedule, against the same network without merging and
//! against ONNX Runtime running that network as a static model, interleaved in one run; batch 1.
//!
//! `cargo bench -p headroom-device --bench token_merging [-- --only MODEL --threads N --rounds N]`. ONNX Runtime
//! needs a Python with numpy, onnx, onnxruntime and torch in `HEADROOM_PYTHON` (default `python3`). The model with
//! 65 tokens is of `vit_cifar10_s`'s size, those with 197 are ViT-S/16 and ViT-B/16; weights are random, because time
//! does not depend on them. Tokens are merged *evenly*, in each block as many, or *early*, in the first blocks as many as
//! may be: `host-prune` chooses among such schedules. *kept* is how much of what MACs promise is measured:
//! `(time without merging / time) / (MACs without merging / MACs)`. Ratios are medians over rounds.

use std::time::Instant;

use headroom_device::engine::{ElasticVit, Workspace};
use headroom_shared::KeptStructures;
use serde_json::json;

use plain_vit::{FirstStructures, PlainVit};
use random_model::noise;
use rivals::{Failure, Rivals, median, write};

mod plain_vit;
#[path = "../tests/random_model/mod.rs"]
mod random_model;
mod rivals;

/// Shares of the dense model's width.
const WIDTHS: [f64; 2] = [1.0, 0.5];

/// Schedules, and shares of a width's MACs.
const SCHEDULES: [(&str, Schedule, f64); 4] = [
    ("evenly", Schedule::Evenly, 0.75),
    ("evenly", Schedule::Evenly, 0.5),
    ("evenly", Schedule::Evenly, 0.3),
    ("early", Schedule::Early, 0.3),
];

/// A width whose blocks merge tokens.
struct Merging<'a> {
    width: &'a FirstStructures,
    merged: Vec<usize>,
}

impl KeptStructures for Merging<'_> {
    fn heads(&self, block: usize) -> usize {
        self.width.heads(block)
    }

    fn head(&self, block: usize, index: usize) -> usize {
        self.width.head(block, index)
    }

    fn neurons(&self, block: usize) -> usize {
        self.width.neurons(block)
    }

    fn merged_tokens(&self, block: usize) -> usize {
        self.merged[block]
    }
}

/// How merged tokens are divided among the blocks.
#[derive(Clone, Copy)]
enum Schedule {
    Evenly,
    Early,
}

impl<'a> Merging<'a> {
    /// `amount` tokens in all, or as many of them as blocks may merge: half of their patches.
    fn new(model: PlainVit, width: &'a FirstStructures, schedule: Schedule, amount: usize) -> Self {
        let mut patches = (model.size / model.patch).pow(2);
        let mut given = 0;
        let merged = (1..=model.depth).map(|blocks| {
            let so_far = match schedule {
                Schedule::Evenly => amount * blocks / model.depth,
                Schedule::Early => amount,
            };
            let merged = (so_far - given).min(patches / 2);
            (given, patches) = (given + merged, patches - merged);
            merged
        });
        Self { width, merged: merged.collect() }
    }

    /// The least merging that leaves at most this share of the width's MACs.
    fn at(model: PlainVit, width: &'a FirstStructures, schedule: Schedule, share: f64) -> Self {
        let most = share * model.macs(width) as f64;
        let patches = (model.size / model.patch).pow(2);
        (0..patches * model.depth)
            .map(|amount| Self::new(model, width, schedule, amount))
            .find(|merging| model.macs(merging) as f64 <= most)
            .unwrap_or_else(|| Self::new(model, width, schedule, patches * model.depth))
    }
}

fn main() -> Result<(), Failure> {
    let (mut only, mut threads, mut rounds) = (String::new(), vec![1, 2], 11);
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--only" => only = value,
            "--threads" => threads = vec![value.parse()?],
            "--rounds" => rounds = value.parse()?,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let Some(mut rivals) = Rivals::start()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let small = PlainVit::VIT_S16;
    let base = PlainVit { embed_dim: 768, heads: 12, neurons: 3072, ..small };
    let tiny = PlainVit::VIT_CIFAR10_S;
    for (name, model) in [("vit_cifar10_s", tiny), ("vit_s16", small), ("vit_b16", base)] {
        if !name.contains(&only) {
            continue;
        }
        let (weights, path) = (model.random_weights(), folder.path().join("weights.safetensors"));
        write(&weights, &path)?;
        let vit = ElasticVit::new(&model.description(), &weights)?;
        let widths = WIDTHS.map(|share| model.rung(share));
        let request = json!({ "model": model, "weights": path, "rungs": widths, "batches": [1], "threads": threads });
        rivals.load(request)?;
        println!("\n{name}: {} tokens, kernels {}", (model.size / model.patch).pow(2) + 1, vit.instructions());
        println!(
            "{:>7} {:>6} {:>8} {:>7} {:>7} {:>9} {:>11} {:>9} {:>14} {:>7} {:>8}",
            "threads",
            "width",
            "schedule",
            "merged",
            "MACs",
            "ours ms",
            "unmerged ms",
            "onnx ms",
            "ours/unmerged",
            "kept",
            "/ onnx"
        );
        let pixels: Vec<f32> = noise(5, vit.pixels()).collect();
        for &threads in &threads {
            for (index, width) in widths.iter().enumerate() {
                for (name, schedule, share) in SCHEDULES {
                    let merging = Merging::at(model, width, schedule, share);
                    let mut workspace = vit.workspace_with_threads(1, threads);
                    let mut times: [Vec<f64>; 3] = Default::default();
                    for _ in 0..rounds {
                        times[0].push(turn(&vit, &mut workspace, &pixels, &merging)?);
                        times[1].push(turn(&vit, &mut workspace, &pixels, width)?);
                        times[2].push(median(&rivals.time("onnx", (index, 1, threads), passes(&vit) + 1)?[1..]));
                    }
                    let ratio = |rival: usize| {
                        median(
                            &times[0].iter().zip(&times[rival]).map(|(ours, rival)| ours / rival).collect::<Vec<_>>(),
                        )
                    };
                    let macs = model.macs(&merging) as f64 / model.macs(width) as f64;
                    let [ours, unmerged, onnx] = [0, 1, 2].map(|engine| median(&times[engine]) * 1e3);
                    println!(
                        "{threads:>7} {:>4.0} % {name:>8} {:>7} {:>5.0} % {ours:>9.3} {unmerged:>11.3} {onnx:>9.3} {:>14.3} {:>7.3} {:>8.3}",
                        WIDTHS[index] * 100.0,
                        merging.merged.iter().sum::<usize>(),
                        macs * 100.0,
                        ratio(1),
                        macs / ratio(1),
                        ratio(2),
                    );
                }
            }
        }
    }
    rivals.stop()
}

/// Passes of a turn, after one that warms caches.
fn passes(vit: &ElasticVit) -> usize {
    if vit.pixels() > 10_000 { 3 } else { 20 }
}

/// The median seconds of one turn's passes.
fn turn(
    vit: &ElasticVit,
    workspace: &mut Workspace,
    pixels: &[f32],
    kept: &impl KeptStructures,
) -> Result<f64, Failure> {
    let mut seconds = Vec::new();
    for _ in 0..=passes(vit) {
        let start = Instant::now();
        std::hint::black_box(vit.embed(workspace, pixels, 1, kept)?.pooled);
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(median(&seconds[1..]))
}
