//! What a prune job tells at its end: a table and a chart for people, JSON for programs.

use std::path::PathBuf;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use headroom_device::run::Precision;
use serde::Serialize;

use super::Options;
use crate::executor::GpuPrecision;
use crate::ranking::Sparsity;
use crate::scores::{KeepCounts, SnapvitScores};

/// The version of the JSON that `--json` prints. A field is only ever added
/// within a version.
pub const REPORT_VERSION: u32 = 1;

/// The whole result of a prune job.
#[derive(Clone, Debug, Serialize)]
pub struct PruneReport {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// How structures were ranked: the name that `--method` takes, or `published scores`.
    pub method: &'static str,
    /// The board that latency and energy are predicted for.
    pub target: String,
    /// Where it was computed, such as `cpu` or `cuda:0,1`.
    pub device: String,
    /// In what the GPUs computed, where they did.
    pub gpu_precision: Option<GpuPrecision>,
    /// What was pruned.
    pub model: ModelReport,
    /// What it was calibrated on.
    pub images: ImagesReport,
    /// Wall time by stage, in order.
    pub stages: Vec<StageReport>,
    /// The published scores that it was ranked by, if any.
    pub scores: Option<ScoresReport>,
    /// What the search did.
    pub search: SearchReport,
    /// What makes up for removed structures.
    pub compensation: CompensationReport,
    /// In what the device computes.
    pub precision: Precision,
    /// What of the model a microcontroller has room for.
    pub fit: Option<FitReport>,
    /// The rungs, from dense to smallest.
    pub ladder: Vec<RungReport>,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// The bundle's hash: the SHA-256 of its manifest.
    pub bundle_sha256: String,
    /// The size of the structure map, bytes.
    pub structure_map_bytes: usize,
    /// What cut the job short and is no interruption, such as a GPU that was lost, with its causes: the bundle holds the
    /// best so far.
    pub failure: Option<String>,
}

/// What was pruned.
#[derive(Clone, Debug, Serialize)]
pub struct ModelReport {
    /// What the checkpoint was recognised as.
    pub family: String,
    /// Weights that the image path uses.
    pub parameters: u64,
    /// Transformer blocks.
    pub blocks: usize,
    /// Heads of a block.
    pub heads: usize,
    /// Neurons of a block.
    pub neurons: usize,
    /// Height and width of the input, pixels.
    pub image_size: (usize, usize),
}

/// What the model was calibrated on.
#[derive(Clone, Debug, Serialize)]
pub struct ImagesReport {
    /// The folder, or `procedural`.
    pub source: String,
    /// Images that importance and search saw.
    pub calibration: usize,
    /// Images that fidelity was measured on.
    pub fidelity: usize,
    /// Whether the fidelity images were not among the calibration images.
    pub held_out: bool,
    /// Files that could not be read.
    pub unreadable: usize,
}

/// The wall time of a stage.
#[derive(Clone, Debug, Serialize)]
pub struct StageReport {
    /// The stage.
    pub name: &'static str,
    /// Wall time.
    pub seconds: f64,
    /// Images that went through the model, forward, in this stage.
    pub image_forwards: u64,
    /// Images whose gradient went back through it.
    pub image_backwards: u64,
}

/// The published scores that a model was ranked by.
#[derive(Clone, Debug, Serialize)]
pub struct ScoresReport {
    /// The model that the file names.
    pub model_type: Option<String>,
    /// What the published code keeps at each of `--sparsities`: exact counts. The ranking removes neurons in groups
    /// of eight, so its sub-networks differ from them by less than a group in a block or two.
    pub published: Vec<PublishedReport>,
}

/// A sub-network of the published code.
#[derive(Clone, Debug, Serialize)]
pub struct PublishedReport {
    /// Share of all neurons that is removed.
    pub neuron_sparsity: f64,
    /// Share of all heads that is removed.
    pub head_sparsity: f64,
    /// What each block keeps.
    pub kept: KeepCounts,
}

impl ScoresReport {
    /// The counts at the sparsities and floors of the options.
    #[must_use]
    pub fn new(scores: &SnapvitScores, options: &Options) -> Self {
        let at = |&sparsity: &Sparsity| PublishedReport {
            neuron_sparsity: sparsity.neurons,
            head_sparsity: sparsity.heads,
            kept: scores.keep_counts(sparsity, options.floors()),
        };
        Self {
            model_type: scores.model_type.clone(),
            published: options.sparsities.as_slice().iter().map(at).collect(),
        }
    }
}

/// What the search did.
#[derive(Clone, Debug, Serialize)]
pub struct SearchReport {
    /// Why it stopped.
    pub stopped: String,
    /// Function evaluations.
    pub evaluations: usize,
    /// Sub-networks that were scored, and how many of them the memo knew.
    pub sub_networks: usize,
    /// Sub-networks that were equal to an earlier one and not run again.
    pub saved_by_memo: usize,
    /// Fitness of the starting point.
    pub first_fitness: Option<f64>,
    /// Fitness of the best.
    pub best_fitness: Option<f64>,
}

/// What makes up for removed structures.
#[derive(Clone, Debug, Serialize)]
pub struct CompensationReport {
    /// The name that `--compensate` takes.
    pub mode: String,
    /// The rungs that the matrices were fitted on.
    pub fitted_on: Vec<usize>,
    /// The rungs that run with corrected matrices, because they are more faithful so.
    pub rungs: Vec<usize>,
    /// What the bundle grows by: the matrices beside the original ones, and a bias for each rung.
    pub bytes: usize,
}

/// What of the model a microcontroller has room for.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FitReport {
    /// The largest rung that is stored, which is the first to run.
    pub start_rung: usize,
    /// Flash for the bundle.
    pub flash_bytes: u64,
    /// RAM for the engine's scratch memory.
    pub ram_bytes: u64,
}

/// What a microcontroller needs for a rung and all below it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct NeedReport {
    /// Flash for the image.
    pub flash_bytes: u64,
    /// RAM for the engine's scratch memory.
    pub ram_bytes: u64,
    /// Whether the board has both.
    pub fits: bool,
}

/// One rung.
#[derive(Clone, Debug, Serialize)]
pub struct RungReport {
    /// The number that `device-run --rung` takes.
    pub rung: usize,
    /// Steps of the ranking.
    pub steps: u32,
    /// Multiply-accumulates of one image.
    pub macs: u64,
    /// Share of the dense model's, 0 to 1.
    pub macs_share: f64,
    /// Bytes of the weights that are read.
    pub weight_bytes: u64,
    /// Heads kept in all blocks.
    pub heads: usize,
    /// Query dimensions, and as many key dimensions, kept in all heads of all blocks.
    pub query_dims: usize,
    /// Value dimensions kept in all heads of all blocks.
    pub value_dims: usize,
    /// Neurons kept in all blocks.
    pub neurons: usize,
    /// Tokens that each block merges.
    pub token_schedule: Vec<u8>,
    /// Mean cosine similarity to the dense embedding in f32, in the precision of the job.
    pub fidelity: f32,
    /// The same with the original weights, in f32.
    pub uncorrected_fidelity: f32,
    /// Whether the rung runs with corrected matrices.
    pub corrected: bool,
    /// With int8: the fidelity of this rung in f32.
    pub f32_fidelity: Option<f32>,
    /// With int8: mean cosine similarity to this very rung in f32.
    pub fidelity_to_f32: Option<f32>,
    /// What a microcontroller needs for it.
    pub need: Option<NeedReport>,
    /// Estimated from the board's roofline, milliseconds.
    pub predicted_ms: f64,
    /// Estimated from the board's roofline, millijoules.
    pub predicted_mj: f64,
}

impl PruneReport {
    /// The ladder as a table and a small chart.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n\n{}\n", self.table(), self.work(), self.chart())
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        let integers = self.precision == Precision::Int8;
        let first = ["rung", "MACs", "share", "weights", "heads", "queries", "values", "neurons", "fidelity"];
        table.set_header(
            first
                .into_iter()
                .chain(integers.then_some("to f32"))
                .chain(["ms *", "mJ *"])
                .chain(self.fit.iter().flat_map(|_| ["flash", "RAM", "fits"])),
        );
        let merges = |rung: &RungReport| rung.token_schedule.iter().any(|&merged| merged > 0);
        for rung in &self.ladder {
            let mut cells = vec![
                rung.rung.to_string(),
                with_prefix(rung.macs as f64, ""),
                format!("{:.0} %", rung.macs_share * 100.0),
                with_prefix(rung.weight_bytes as f64, "B"),
                rung.heads.to_string(),
                rung.query_dims.to_string(),
                rung.value_dims.to_string(),
                rung.neurons.to_string(),
                format!("{:.4}{}", rung.fidelity, if rung.corrected { " +" } else { "  " }),
            ];
            cells.extend(rung.fidelity_to_f32.map(|fidelity| format!("{fidelity:.4}")));
            cells.extend([significant(rung.predicted_ms), significant(rung.predicted_mj)]);
            if let Some(need) = rung.need {
                let fits = if need.fits { "yes" } else { "no" };
                let bytes = |bytes: u64| with_prefix(bytes as f64, "B");
                cells.extend([bytes(need.flash_bytes), bytes(need.ram_bytes), fits.to_owned()]);
            }
            table.add_row(cells);
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let corrected = self.ladder.iter().any(|rung| rung.corrected);
        let schedule = |rung: &RungReport| {
            let merged: Vec<String> = rung.token_schedule.iter().map(u8::to_string).collect();
            format!("tokens merged at rung {}, by block: {}\n", rung.rung, merged.join(" "))
        };
        let merging: String = self.ladder.iter().filter(|rung| merges(rung)).map(schedule).collect();
        let plus = if corrected { "+ with corrected matrices\n" } else { "" };
        let integers = if integers { "to f32: int8 to the same rung in f32\n" } else { "" };
        let stored = self.fit.map_or_else(String::new, |fit| {
            let bytes = |bytes: u64| with_prefix(bytes as f64, "B");
            let (flash, ram) = (bytes(fit.flash_bytes), bytes(fit.ram_bytes));
            let (board, start) = (&self.target, fit.start_rung);
            format!("{board} has {flash} of flash for a bundle and {ram} of RAM for the engine: stored from rung {start} on\n")
        });
        format!(
            "{table}\n{merging}{plus}{integers}{stored}* estimated from the roofline of {}, one image at a time",
            self.target
        )
    }

    fn work(&self) -> String {
        let sum = |of: fn(&StageReport) -> u64| self.stages.iter().map(of).sum::<u64>();
        format!(
            "work: {} image forwards and {} backwards",
            sum(|stage| stage.image_forwards),
            sum(|stage| stage.image_backwards)
        )
    }

    fn chart(&self) -> String {
        let smallest_first: Vec<f64> = self.ladder.iter().rev().map(|rung| f64::from(rung.fidelity)).collect();
        let (Some(small), Some(dense)) = (self.ladder.last(), self.ladder.first()) else { return String::new() };
        let plot = rasciigraph::plot(
            smallest_first,
            rasciigraph::Config::default().with_height(8).with_width(60).with_offset(2),
        );
        format!(
            "fidelity\n{}\n          {:<28}MACs{:>28}",
            plot.trim_end(),
            format!("{:.0} %", small.macs_share * 100.0),
            format!("{:.0} %", dense.macs_share * 100.0)
        )
    }
}

/// Three significant digits.
fn significant(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else if value >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.digits$}")
}

/// Three significant digits with a decimal prefix.
pub(crate) fn with_prefix(value: f64, unit: &str) -> String {
    let (scale, prefix) = match value {
        v if v >= 1e9 => (1e9, "G"),
        v if v >= 1e6 => (1e6, "M"),
        v if v >= 1e3 => (1e3, "k"),
        _ => (1.0, ""),
    };
    format!("{} {prefix}{unit}", significant(value / scale)).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(with_prefix(17_563_000_000.0, ""), "17.6 G");
        assert_eq!(with_prefix(4_830_656.0, "B"), "4.83 MB");
        assert_eq!(with_prefix(12.0, "B"), "12.0 B");
        assert_eq!(significant(0.1234), "0.123");
    }
}
