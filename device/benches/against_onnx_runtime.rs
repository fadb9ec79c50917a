//! The time of a forward pass at several rungs, against ONNX Runtime and PyTorch running the
//! physically pruned model of the same counts, interleaved in one run.
//!
//! `cargo bench -p headroom-device --bench against_onnx_runtime [-- --only MODEL --batch N --threads
//! N --rounds N]`; needs a Python with numpy, onnx, onnxruntime and torch in `HEADROOM_PYTHON`
//! (default `python3`). ViT-S/16 and ViT-B/16 have random weights; `vit_cifar10_s` is read from
//! `HEADROOM_MODELS` (default `../shared/models`). Image embeddings are compared before anything is
//! timed. In every round each cell is run by each engine in turn; figures are medians of all passes,
//! and of the fastest ones, which say more on a machine with other work.

use std::path::Path;
use std::time::{Duration, Instant};

use headroom_device::engine::{ElasticVit, Workspace};
use headroom_device::model::Weights;
use serde_json::json;

use plain_vit::{FirstStructures, PlainVit};
use random_model::noise;
use rivals::{Cell, Failure, Rivals, median, models, write};

mod plain_vit;
#[path = "../tests/random_model/mod.rs"]
mod random_model;
mod rivals;

const SHARES: [f64; 4] = [1.0, 0.75, 0.5, 0.3];
/// Passes of one turn take about so long, but are at least one.
const TURN: Duration = Duration::from_millis(60);
/// After a turn: threads of other engines may spin a while after their last pass.
const PAUSE: Duration = Duration::from_millis(8);
/// Largest difference of embeddings over their largest value.
const TOLERANCE: f64 = 1e-4;
const ENGINES: [&str; 3] = ["onnx", "torch", "headroom"];

/// What the command line asks for.
struct Options {
    only: String,
    batches: Vec<usize>,
    threads: Vec<usize>,
    rounds: Option<usize>,
}

impl Options {
    fn read() -> Result<Self, Failure> {
        let mut options = Self { only: String::new(), batches: vec![1, 8], threads: vec![1, 2], rounds: None };
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--only" => options.only = value,
                "--batch" => options.batches = vec![value.parse()?],
                "--threads" => options.threads = vec![value.parse()?],
                "--rounds" => options.rounds = Some(value.parse()?),
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        Ok(options)
    }

    /// Batches take several times as long and vary less.
    fn rounds(&self, batch: usize) -> usize {
        self.rounds.unwrap_or(if batch == 1 { 11 } else { 3 })
    }
}

fn main() -> Result<(), Failure> {
    let options = Options::read()?;
    let Some(mut rivals) = Rivals::start()? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let cifar = models().join("vit_cifar10_s.safetensors");
    let small = PlainVit::VIT_S16;
    let base = PlainVit { embed_dim: 768, heads: 12, neurons: 3072, ..small };
    let tiny = PlainVit::VIT_CIFAR10_S;
    let mut lines = Vec::new();
    for (name, model, file) in [("vit_cifar10_s", tiny, Some(cifar)), ("vit_s16", small, None), ("vit_b16", base, None)]
    {
        if !name.contains(&options.only) {
            continue;
        }
        let (weights, path) = match file {
            Some(path) if path.is_file() => (Weights::from_safetensors(&std::fs::read(&path)?)?, path),
            Some(path) => {
                println!("SKIPPED {name}: no {}", path.display());
                continue;
            }
            None => {
                let weights = model.random_weights();
                let path = folder.path().join("weights.safetensors");
                write(&weights, &path)?;
                (weights, path)
            }
        };
        let contest = Contest {
            name,
            model,
            vit: ElasticVit::new(&model.description(), &weights)?,
            rungs: SHARES.map(|share| model.rung(share)),
            options: &options,
        };
        drop(weights);
        let request = json!({
            "model": model, "weights": path, "rungs": contest.rungs,
            "batches": options.batches, "threads": options.threads,
        });
        let loaded = rivals.load(request)?;
        println!("\n{name}: kernels {}, ONNX Runtime's graph {}", contest.vit.instructions(), loaded["spellings"]);
        lines.extend(contest.run(&mut rivals, folder.path())?);
    }
    rivals.stop()?;
    println!(
        "\ntime ratio headroom / ONNX Runtime (above 1.00: marked *), and of headroom's own dense time; then both"
    );
    println!("for the fastest passes");
    lines.iter().for_each(|line| println!("{line}"));
    Ok(())
}

/// One model in all engines.
struct Contest<'a> {
    name: &'static str,
    model: PlainVit,
    vit: ElasticVit,
    rungs: [FirstStructures; SHARES.len()],
    options: &'a Options,
}

impl Contest<'_> {
    /// Compares and times all cells; returns the lines of the last table.
    fn run(&self, rivals: &mut Rivals, folder: &Path) -> Result<Vec<String>, Failure> {
        println!(
            "{:>5} {:>5} {:>7} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8}   fastest: {:>8} {:>8} {:>8}",
            "MACs",
            "batch",
            "threads",
            "onnx ms",
            "torch ms",
            "ours ms",
            "/ onnx",
            "/ torch",
            "of dense",
            "ours ms",
            "/ onnx",
            "of dense"
        );
        let mut lines = Vec::new();
        for &batch in &self.options.batches {
            let pixels: Vec<f32> = noise(5, batch * self.vit.pixels()).collect();
            let cells: Vec<Cell> = self
                .options
                .threads
                .iter()
                .flat_map(|&threads| (0..SHARES.len()).map(move |rung| (rung, batch, threads)))
                .collect();
            let mut workspaces: Vec<Workspace> =
                cells.iter().map(|&(_, batch, threads)| self.vit.workspace_with_threads(batch, threads)).collect();
            for (&cell, workspace) in cells.iter().zip(&mut workspaces) {
                self.compare(rivals, cell, workspace, &pixels, &folder.join("pixels"))?;
            }
            let times = self.time(rivals, &cells, &mut workspaces, &pixels)?;
            let mut dense = (0.0, 0.0);
            for (&(rung, batch, threads), times) in cells.iter().zip(&times) {
                let [onnx, torch, ours] = [0, 1, 2].map(|engine| median(&times[engine]) * 1e3);
                let [fastest_onnx, _, fastest] = [0, 1, 2].map(|engine| fastest(&times[engine]) * 1e3);
                if rung == 0 {
                    dense = (ours, fastest);
                }
                let share = self.model.macs(&self.rungs[rung]) as f64 / self.model.macs(&self.rungs[0]) as f64;
                let (ratio, of_dense) = (ours / onnx, ours / dense.0);
                let (fastest_ratio, fastest_of_dense) = (fastest / fastest_onnx, fastest / dense.1);
                println!(
                    "{:>4.0}% {batch:>5} {threads:>7} {onnx:>9.3} {torch:>9.3} {ours:>9.3} {ratio:>8.3} {:>8.3} \
                     {of_dense:>8.3}            {fastest:>8.3} {fastest_ratio:>8.3} {fastest_of_dense:>8.3}",
                    share * 100.0,
                    ours / torch,
                );
                let mark = if ratio > 1.0 { '*' } else { ' ' };
                lines.push(format!(
                    "{:>14} {:>4.0} % batch {batch} threads {threads} {ratio:>8.3}{mark} {of_dense:>8.3} \
                     {fastest_ratio:>8.3} {fastest_of_dense:>8.3}",
                    self.name,
                    share * 100.0
                ));
            }
        }
        Ok(lines)
    }

    /// All engines must compute the same.
    fn compare(
        &self,
        rivals: &mut Rivals,
        cell: Cell,
        workspace: &mut Workspace,
        pixels: &[f32],
        file: &Path,
    ) -> Result<(), Failure> {
        let bytes: Vec<u8> = pixels.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(file, bytes)?;
        let ours = self.vit.embed(workspace, pixels, cell.1, &self.rungs[cell.0])?.pooled;
        for (rival, theirs) in rivals.outputs(cell, file)? {
            let largest = ours.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            let differences = ours.iter().zip(&theirs).map(|(a, b)| f64::from((a - b).abs() / largest));
            let difference = differences.fold(0.0, |worst, one| if one <= worst { worst } else { one });
            if ours.len() != theirs.len() || difference > TOLERANCE {
                return Err(format!("{} {cell:?}: {rival} differs by {difference:.1e}", self.name).into());
            }
        }
        Ok(())
    }

    /// The seconds of all passes, by cell and engine.
    fn time(
        &self,
        rivals: &mut Rivals,
        cells: &[Cell],
        workspaces: &mut [Workspace],
        pixels: &[f32],
    ) -> Result<Vec<[Vec<f64>; ENGINES.len()]>, Failure> {
        let mut times = vec![[const { Vec::new() }; ENGINES.len()]; cells.len()];
        for round in 0..self.options.rounds(cells[0].1) {
            for ((&cell, workspace), times) in cells.iter().zip(&mut *workspaces).zip(&mut times) {
                // Who comes first changes from round to round.
                for engine in (0..ENGINES.len()).map(|engine| (engine + round) % ENGINES.len()) {
                    let known = times[engine].first().map_or(TURN, |&seconds| Duration::from_secs_f64(seconds));
                    let passes = (TURN.as_secs_f64() / known.as_secs_f64()).round().max(1.0) as usize;
                    // A first pass brings the weights into the caches; long ones do not notice.
                    let warm = usize::from(known < 8 * TURN);
                    let seconds = if ENGINES[engine] == "headroom" {
                        self.passes(workspace, pixels, cell, warm + passes)?
                    } else {
                        rivals.time(ENGINES[engine], cell, warm + passes)?
                    };
                    times[engine].extend(&seconds[warm..]);
                    std::thread::sleep(PAUSE);
                }
            }
        }
        Ok(times)
    }

    fn passes(&self, workspace: &mut Workspace, pixels: &[f32], cell: Cell, count: usize) -> Result<Vec<f64>, Failure> {
        let mut seconds = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            std::hint::black_box(self.vit.embed(workspace, pixels, cell.1, &self.rungs[cell.0])?.pooled);
            seconds.push(start.elapsed().as_secs_f64());
        }
        Ok(seconds)
    }
}

fn fastest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}
