//! The time of a forward pass in int8 at several rungs, against the f32 engine of this crate at the same rung and
//! ONNX Runtime's int8 model of the same static size, interleaved in one run; batch 1, all with as many threads.
//!
//! `cargo bench -p headroom-device --bench integer_against_f32 [-- --only MODEL --rounds N --threads N]`. ONNX Runtime needs a
//! Python with numpy, onnx, onnxruntime and torch in `HEADROOM_PYTHON` (default `python3`) and is left out without.
//! It gets the pruned model quantised by `onnxruntime.quantization`, dynamically (also with its fused `Attention`)
//! and statically, and the way that is fastest on the dense model counts. `vit_cifar10_s` is read from
//! `HEADROOM_MODELS` (default `../shared/models`), ViT-S/16 has random weights. Ratios are medians over rounds: in
//! each round all engines run in turn.

use std::path::Path;
use std::time::Instant;

use headroom_device::engine::{ElasticVit, Workspace};
use headroom_device::integer::{IntegerOutput, IntegerSource, PackedIntegerVit};
use headroom_device::model::{Corrections, Weights};
use headroom_shared::IntegerModel;
use serde_json::json;

use plain_vit::PlainVit;
use random_model::noise;
use rivals::{Failure, Rivals, median, models, write};

mod plain_vit;
#[path = "../tests/random_model/mod.rs"]
mod random_model;
mod rivals;

const SHARES: [f64; 4] = [1.0, 0.75, 0.5, 0.3];
const RIVAL: &str = "onnx-int8";

fn main() -> Result<(), Failure> {
    let (mut only, mut rounds, mut threads) = (String::new(), 15, 1_usize);
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--only" => only = value,
            "--rounds" => rounds = value.parse()?,
            "--threads" => threads = value.parse()?,
            _ => return Err(format!("unknown option {name}").into()),
        }
    }
    let mut rivals = Rivals::start()?;
    let folder = tempfile::tempdir()?;
    let cifar = models().join("vit_cifar10_s.safetensors");
    let small = PlainVit::VIT_S16;
    let tiny = PlainVit::VIT_CIFAR10_S;
    for (name, model, file) in [("vit_cifar10_s", tiny, Some(cifar)), ("vit_s16", small, None)] {
        if !name.contains(&only) {
            continue;
        }
        let (weights, path) = match file {
            Some(path) if path.is_file() => (Weights::from_safetensors(&std::fs::read(&path)?)?, path),
            Some(path) => {
                println!("SKIPPED {name}: no {}", path.display());
                continue;
            }
            None => {
                let (weights, path) = (model.random_weights(), folder.path().join("weights.safetensors"));
                write(&weights, &path)?;
                (weights, path)
            }
        };
        contest(name, model, (&weights, path.as_path()), rivals.as_mut(), rounds, threads)?;
    }
    rivals.map_or(Ok(()), Rivals::stop)
}

/// Times all rungs of a model.
fn contest(
    name: &str,
    model: PlainVit,
    (weights, path): (&Weights, &Path),
    mut rivals: Option<&mut Rivals>,
    rounds: usize,
    threads: usize,
) -> Result<(), Failure> {
    let rungs = SHARES.map(|share| model.rung(share));
    let description = model.description();
    let f32_engine = ElasticVit::new(&description, weights)?;
    let mut workspace = f32_engine.workspace_with_threads(1, threads);
    let source = IntegerSource {
        description: &description,
        weights,
        weights_sha256: [0; 32],
        corrections: &Corrections::default(),
        counts: &IntegerSource::all_counts(&description),
        original_ends: true,
    };
    let file = source.convert()?.write()?;
    let mut int8_engine = PackedIntegerVit::with_threads(IntegerModel::read(&file)?, threads);
    let mut ways = String::new();
    if let Some(rivals) = &mut rivals {
        let request = json!({
            "model": model, "weights": path, "rungs": rungs, "batches": [1], "threads": [threads], "int8": true,
        });
        ways = rivals.load(request)?["int8"].to_string();
    }
    println!(
        "\n{name}, {threads} threads: f32 {}, int8 {}, {:.2} MB; ONNX Runtime's int8: {ways}",
        f32_engine.instructions(),
        int8_engine.instructions(),
        file.len() as f64 / 1e6
    );
    println!(
        "{:>5} {:>9} {:>9} {:>9} {:>12} {:>12} {:>9}",
        "MACs", "f32 ms", "int8 ms", "onnx ms", "f32 / int8", "onnx / int8", "cosine"
    );
    let side = model.size * model.size;
    let frame: Vec<u8> = noise(5, 3 * side).map(|value| ((value + 1.0) * 127.9) as u8).collect();
    let pixels: Vec<f32> =
        (0..3 * side).map(|at| (f32::from(frame[at % side * 3 + at / side]) / 255.0 - 0.5) / 0.5).collect();
    let mut embedding = vec![0.0; model.embed_dim];
    for (rung, kept) in rungs.iter().enumerate() {
        let mut times: [Vec<f64>; 3] = Default::default();
        let mut expected = Vec::new();
        // Passes of a turn, after one that warms caches.
        let turn = if model.size > 100 { 3 } else { 20 };
        for _ in 0..rounds {
            let f32_pass = |workspace: &mut Workspace| {
                let start = Instant::now();
                let output = f32_engine.embed(workspace, &pixels, 1, kept).map(|output| output.pooled.to_vec());
                output.map(|pooled| (start.elapsed().as_secs_f64(), pooled))
            };
            expected = f32_pass(&mut workspace)?.1;
            let mut seconds = Vec::new();
            for _ in 0..turn {
                seconds.push(f32_pass(&mut workspace)?.0);
            }
            times[0].push(median(&seconds));
            seconds.clear();
            for _ in 0..=turn {
                let start = Instant::now();
                let output = IntegerOutput { embedding: Some(&mut embedding), ..IntegerOutput::default() };
                int8_engine.infer(&frame, kept, output)?;
                seconds.push(start.elapsed().as_secs_f64());
            }
            times[1].push(median(&seconds[1..]));
            if let Some(rivals) = &mut rivals {
                times[2].push(median(&rivals.time(RIVAL, (rung, 1, threads), turn + 1)?[1..]));
            }
        }
        let ratio = |engine: usize| {
            let ratios: Vec<f64> = times[engine].iter().zip(&times[1]).map(|(a, b)| a / b).collect();
            if ratios.is_empty() { f64::NAN } else { median(&ratios) }
        };
        let milliseconds =
            |engine: usize| if times[engine].is_empty() { f64::NAN } else { median(&times[engine]) * 1e3 };
        println!(
            "{:>4.0}% {:>9.3} {:>9.3} {:>9.3} {:>12.2} {:>12.2} {:>9.5}",
            100.0 * model.macs(kept) as f64 / model.macs(&rungs[0]) as f64,
            milliseconds(0),
            milliseconds(1),
            milliseconds(2),
            ratio(0),
            ratio(2),
            cosine(&expected, &embedding),
        );
    }
    Ok(())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
