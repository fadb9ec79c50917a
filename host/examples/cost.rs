//! What Vision Transformers cost on paper: operations, bytes and the two times of the roofline on the accelerators
//! that users have, for every rung and for the stages of a prune job.
//!
//! ```sh
//! cargo run --release --example cost > docs/cost.md
//! ```
//! Nothing is measured here, and nothing is taken off the peaks: a kernel that is ten times as slow as its roofline
//! is still right, and this page tells that it could be better.
#![forbid(unsafe_code)]

use std::error::Error;

use headroom_host::boards;
use headroom_shared::roofline::Work;
use headroom_shared::{MlpKind, ModelShape, SubNetwork};

/// Bytes of a weight and of an activation: f16.
const BYTES: u8 = 2;
/// Queries for which the fused attention of `device/src/cuda` reads keys and values once.
const QUERIES_OF_BLOCK: usize = 64;
/// Shares of heads and neurons that a rung keeps.
const SHARES: [f64; 4] = [1.0, 0.75, 0.5, 0.3];
/// What the default job does for each calibration image, from its report on the demo model with 128 images
/// (`host-prune --target jetson-orin --json`): stage, forward passes, backward passes, and the mean share of the dense
/// model's MACs of a forward pass (even rungs).
const STAGES: [(&str, f64, f64, f64); 5] = [
    ("head basis", 0.5, 0.0, 1.0),
    ("importance", 1.0, 4.0, 1.0),
    ("ladder", 25.0, 0.0, 0.52),
    ("compensation", 21.0, 0.0, 0.52),
    ("corrected ladder", 20.0, 0.0, 0.45),
];
/// Calibration images of the job.
const IMAGES: f64 = 1000.0;

/// The peaks of an accelerator.
struct Accelerator {
    name: &'static str,
    /// f16 on tensor cores, without sparsity, one multiply-accumulate being two.
    operations_per_second: f64,
    bytes_per_second: f64,
    source: &'static str,
}

fn accelerators() -> Result<Vec<Accelerator>, Box<dyn Error>> {
    let board = |name: &'static str, label| -> Result<Accelerator, Box<dyn Error>> {
        let profile = boards::find(name)?.profile;
        Ok(Accelerator {
            name: label,
            operations_per_second: profile.compute.f16_operations_per_second.value as f64,
            bytes_per_second: profile.memory.bandwidth_bytes_per_second.value as f64,
            source: "profile in `boards/`",
        })
    };
    Ok(vec![
        board("jetson-orin-nano", "Orin Nano Super")?,
        board("jetson-orin-nx", "Orin NX Super")?,
        board("jetson-orin", "AGX Orin 64GB")?,
        board("jetson-thor", "AGX Thor")?,
        Accelerator {
            name: "A100 80GB",
            operations_per_second: 312e12,
            bytes_per_second: 2039e9,
            source: "NVIDIA A100 data sheet, SXM",
        },
        Accelerator {
            name: "H100",
            operations_per_second: 989e12,
            bytes_per_second: 3350e9,
            source: "NVIDIA H100 data sheet, SXM, without sparsity",
        },
    ])
}

/// A Vision Transformer with a class token, without a classifier.
fn shape(embed_dim: u16, blocks: u8, heads: u8, patch: u64, size: u64) -> ModelShape {
    let (width, patches) = (u64::from(embed_dim), (size / patch).pow(2));
    let patch_weights = 3 * patch * patch * width;
    ModelShape {
        blocks,
        heads,
        head_dim: embed_dim / u16::from(heads),
        neurons: 4 * embed_dim,
        embed_dim,
        tokens: patches as u16 + 1,
        mlp: MlpKind::Plain,
        bytes_per_weight: BYTES,
        outside_macs: patches * patch_weights,
        outside_weight_bytes: u64::from(BYTES) * (patch_weights + width * (patches + 5)),
        floor_heads: 0,
        floor_neurons: 0,
    }
}

/// The same share of the heads and neurons of every block.
fn rung(shape: &ModelShape, share: f64) -> Result<SubNetwork, Box<dyn Error>> {
    let kept = |all: f64| (share * all).round() as usize;
    let counts = vec![(kept(shape.heads.into()), kept(shape.neurons.into())); usize::from(shape.blocks)];
    Ok(SubNetwork::from_counts(shape, &counts)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let accelerators = accelerators()?;
    println!("# Cost on paper\n");
    println!("Made by `cargo run --release --example cost > docs/cost.md`; nothing here is measured. Weights and");
    println!(
        "activations are f16, one image at a time. A pair is milliseconds of the roofline: operations over the peak /"
    );
    println!("bytes over the bandwidth. The larger of the two is the least that any engine can take.\n");
    println!("| accelerator | f16, dense | memory | source |\n|---|---|---|---|");
    for Accelerator { name, operations_per_second, bytes_per_second, source } in &accelerators {
        let (operations, bytes) = (operations_per_second / 1e12, bytes_per_second / 1e9);
        println!("| {name} | {operations:.1} TFLOPS | {bytes:.0} GB/s | {source} |");
    }
    println!("\n## One inference\n");
    let names: Vec<&str> = accelerators.iter().map(|accelerator| accelerator.name).collect();
    println!("| model | heads, neurons kept | GMACs | weights, MB | activations, MB | {} |", names.join(" | "));
    println!("|---|---|---|---|---|{}", "---|".repeat(names.len()));
    let sizes = [("ViT-S", 384, 12, 6), ("ViT-B", 768, 12, 12), ("ViT-L", 1024, 24, 16), ("ViT-H", 1280, 32, 16)];
    for (name, embed_dim, blocks, heads) in sizes {
        for (patch, size) in [(if name == "ViT-H" { 14 } else { 16 }, 224), (14, 518)] {
            let shape = shape(embed_dim, blocks, heads, patch, size);
            for share in SHARES {
                let work = Work::of(&shape, &rung(&shape, share)?);
                let times: Vec<String> = accelerators.iter().map(|accelerator| pair(accelerator, work, 1e3)).collect();
                println!(
                    "| {name}/{patch}, {size} px | {:.0} % | {:.2} | {:.1} | {:.1} | {} |",
                    share * 100.0,
                    work.macs as f64 / 1e9,
                    work.weight_bytes as f64 / 1e6,
                    work.activation_bytes as f64 / 1e6,
                    times.join(" | ")
                );
            }
        }
    }
    let vit_b = shape(768, 12, 12, 16, 224);
    let (dense, half) = (Work::of(&vit_b, &rung(&vit_b, 1.0)?), Work::of(&vit_b, &rung(&vit_b, 0.5)?));
    println!("\nThe goal on an Orin Nano Super for ViT-B/16 at 224 px is 6.3 ms dense, which TensorRT reaches");
    println!("(NVIDIA, quoted by jetson-ai-lab.com), and 3.6 ms at half of the MACs. On paper it is");
    println!(
        "{} and {}: 6.3 ms is a third of the peak.\n",
        pair(&accelerators[0], dense, 1e3),
        pair(&accelerators[0], half, 1e3)
    );
    attention(&accelerators, &sizes);
    println!("## A default prune job with {IMAGES:.0} images\n");
    println!(
        "Passes for each image are those of the default job's report on the demo model; a backward pass counts as two"
    );
    println!(
        "forward ones. Seconds at a third of the peak, as ViT-B/16 in TensorRT reaches on Orin. The default search"
    );
    println!("evaluates nothing: its scores already compare between blocks.\n");
    println!(
        "| model | stage | forwards | backwards | PMACs | A100 80GB, s | H100, s |\n|---|---|---|---|---|---|---|"
    );
    for (name, embed_dim, blocks, heads) in sizes {
        let patch = if name == "ViT-H" { 14 } else { 16 };
        let shape = shape(embed_dim, blocks, heads, patch, 224);
        let macs = Work::of(&shape, &rung(&shape, 1.0)?).macs as f64;
        let mut sum = [0.0; 3];
        let row = |stage: &str, forwards: f64, backwards: f64, all: f64| {
            let seconds = |accelerator: &Accelerator| 3.0 * 2.0 * all / accelerator.operations_per_second;
            let [a100, h100] = [&accelerators[4], &accelerators[5]].map(seconds);
            println!(
                "| {name}/{patch} | {stage} | {forwards:.0} | {backwards:.0} | {:.2} | {a100:.1} | {h100:.1} |",
                all / 1e15
            );
        };
        for (stage, forwards, backwards, share) in STAGES {
            let all = IMAGES * macs * (forwards * share + 2.0 * backwards);
            sum = [sum[0] + forwards, sum[1] + backwards, sum[2] + all];
            row(stage, IMAGES * forwards, IMAGES * backwards, all);
        }
        row("all", IMAGES * sum[0], IMAGES * sum[1], sum[2]);
    }
    println!("\nThe goal for ViT-B/16 is a minute on an A100.");
    Ok(())
}

/// What the fused attention of the GPU engine does not move, dense.
fn attention(accelerators: &[Accelerator], sizes: &[(&str, u16, u8, u8)]) {
    println!("## Attention without scores in memory\n");
    println!(
        "The activations above take the scores of the attention to stay on chip. On GPUs older than sm_80 they do not:"
    );
    println!("each of 2 bytes is written by a product, read by the softmax, written as a share and read by the next");
    println!(
        "product. The fused kernel writes none, and reads keys and values once for every {QUERIES_OF_BLOCK} queries rather"
    );
    println!(
        "than once. Bytes of all blocks of the dense model, and the milliseconds of what is saved at the bandwidth of"
    );
    println!(
        "the memory. A cache saves a part of both: an Orin NX has 2 MB of L2, where the scores of a block of ViT-B/16 at"
    );
    println!(
        "224 px, 0.9 MB, find room, so that at that size mostly launches are saved, two of three in each block.\n"
    );
    let names: Vec<&str> = accelerators.iter().map(|accelerator| accelerator.name).collect();
    println!("| model | scores, MB | keys and values again, MB | {} |", names.join(" | "));
    println!("|---|---|---|{}", "---|".repeat(names.len()));
    for &(name, embed_dim, blocks, heads) in sizes {
        for (patch, size) in [(if name == "ViT-H" { 14 } else { 16 }, 224), (14, 518)] {
            let tokens = usize::from(shape(embed_dim, blocks, heads, patch, size).tokens);
            let (blocks, heads, width) = (usize::from(blocks), usize::from(heads), usize::from(embed_dim));
            let scores = 4 * usize::from(BYTES) * blocks * heads * tokens * tokens.next_multiple_of(8);
            let again = 2 * usize::from(BYTES) * blocks * tokens * width * (tokens.div_ceil(QUERIES_OF_BLOCK) - 1);
            let saved = |accelerator: &Accelerator| {
                format!("{:.2}", (scores - again) as f64 / accelerator.bytes_per_second * 1e3)
            };
            let times: Vec<String> = accelerators.iter().map(saved).collect();
            println!(
                "| {name}/{patch}, {size} px | {:.1} | {:.1} | {} |",
                scores as f64 / 1e6,
                again as f64 / 1e6,
                times.join(" | ")
            );
        }
    }
    println!();
}

/// The two times of a roofline, in units of a second over `scale`.
fn pair(accelerator: &Accelerator, work: Work, scale: f64) -> String {
    let compute = 2.0 * work.macs as f64 / accelerator.operations_per_second;
    let memory = (work.weight_bytes + work.activation_bytes) as f64 / accelerator.bytes_per_second;
    format!("{:.2} / {:.2}", compute * scale, memory * scale)
}
