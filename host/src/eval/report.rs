//! What an evaluation tells: a table for people, JSON for programs.

use std::path::{Path, PathBuf};

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use headroom_device::run::Precision;
use serde::Serialize;

use super::labelled_images::LabelledImages;
use super::{Accuracy, Mean};
use crate::executor::GpuPrecision;
use crate::prune::with_prefix;

/// The version of the JSON that `--json` prints. A field is only ever added
/// within a version.
pub const EVAL_VERSION: u32 = 1;

/// The whole result.
#[derive(Clone, Debug, Serialize)]
pub struct EvalReport {
    /// [`EVAL_VERSION`].
    pub version: u32,
    /// What was judged by.
    pub query: FolderReport,
    /// What the classes were learnt from.
    pub bank: Option<FolderReport>,
    /// What the rungs were computed in.
    pub precision: Precision,
    /// Where they ran, such as `cpu` or `cuda:0,1`.
    pub device: String,
    /// In what the GPUs computed, where they did.
    pub gpu_precision: Option<GpuPrecision>,
    /// k of k-NN, and the temperature of its votes.
    pub neighbours: usize,
    pub temperature: f64,
    /// In the order of the command line.
    pub bundles: Vec<BundleReport>,
}

/// A folder of labelled images.
#[derive(Clone, Debug, Serialize)]
pub struct FolderReport {
    pub path: PathBuf,
    /// Image files, unreadable ones included.
    pub images: usize,
    pub classes: usize,
}

impl FolderReport {
    pub(super) fn of(path: &Path, images: &LabelledImages) -> Self {
        Self { path: path.to_path_buf(), images: images.files.len(), classes: images.classes.len() }
    }
}

/// A bundle.
#[derive(Clone, Debug, Serialize)]
pub struct BundleReport {
    /// The name of its folder.
    pub name: String,
    pub bundle: PathBuf,
    /// The SHA-256 of its manifest.
    pub sha256: String,
    pub rungs: Vec<RungReport>,
    /// Rungs that were to be judged in integers and that the integer model does not hold.
    pub left_out: Vec<usize>,
}

/// A rung.
#[derive(Clone, Debug, Serialize)]
pub struct RungReport {
    pub rung: usize,
    /// Multiply-accumulates of one image, and their share of the dense model's.
    pub macs: u64,
    pub macs_share: f64,
    pub weight_bytes: u64,
    /// Tokens that each block merges into others.
    pub token_schedule: Vec<u8>,
    /// Whether it runs with corrected matrices.
    pub corrected: bool,
    /// Mean cosine of the pooled embedding to the dense model's.
    pub fidelity: Mean,
    /// In integers: the same to this rung in f32.
    pub fidelity_to_f32: Option<Mean>,
    /// Mean cosine to the dense model's of patch tokens after the final norm.
    pub patch_fidelity: Mean,
    /// Top-1 of weighted k-NN.
    pub nearest_neighbours: Option<Accuracy>,
    /// Top-1 of a linear classifier.
    pub linear_probe: Option<Accuracy>,
    /// Top-1 of the model's own head.
    pub head: Option<Accuracy>,
}

/// What a bundle is called in tables: its folder's name.
pub(super) fn name_of(path: &Path) -> String {
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    absolute.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

impl EvalReport {
    /// A table for each bundle.
    #[must_use]
    pub fn text(&self) -> String {
        let tables: Vec<String> = self.bundles.iter().map(table).collect();
        let bank = self.bank.as_ref().map_or_else(String::new, |bank| {
            format!(", {} images of {} classes to learn from (k = {})", bank.images, bank.classes, self.neighbours)
        });
        let Self { query, .. } = self;
        format!(
            "{}\n{} images of {} classes to judge by{bank}; accuracies with half their 95 % interval\n",
            tables.join("\n\n"),
            query.images,
            query.classes
        )
    }
}

fn table(bundle: &BundleReport) -> String {
    let has = |of: fn(&RungReport) -> Option<Accuracy>| bundle.rungs.iter().any(|rung| of(rung).is_some());
    type Column = (&'static str, fn(&RungReport) -> Option<Accuracy>);
    let columns: [Column; 3] = [
        ("k-NN %", |rung| rung.nearest_neighbours),
        ("linear %", |rung| rung.linear_probe),
        ("head %", |rung| rung.head),
    ];
    let columns: Vec<Column> = columns.into_iter().filter(|(_, of)| has(*of)).collect();
    let merged = |rung: &RungReport| rung.token_schedule.iter().map(|&tokens| u32::from(tokens)).sum::<u32>();
    let merging = bundle.rungs.iter().any(|rung| merged(rung) > 0);
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    let names = ["rung", "MACs", "share", "weights"].into_iter().chain(merging.then_some("merged"));
    let integers = bundle.rungs.iter().any(|rung| rung.fidelity_to_f32.is_some());
    let names = names.chain(["fidelity"]).chain(integers.then_some("to f32")).chain(["patches"]);
    table.set_header(names.chain(columns.iter().map(|(name, _)| *name)));
    for rung in &bundle.rungs {
        let mut cells = vec![
            rung.rung.to_string(),
            with_prefix(rung.macs as f64, ""),
            format!("{:.0} %", rung.macs_share * 100.0),
            with_prefix(rung.weight_bytes as f64, "B"),
        ];
        cells.extend(merging.then(|| merged(rung).to_string()));
        cells.push(format!("{:.4}{}", rung.fidelity.value, if rung.corrected { " +" } else { "  " }));
        cells.extend(rung.fidelity_to_f32.map(|fidelity| format!("{:.5}", fidelity.value)));
        cells.push(format!("{:.4}", rung.patch_fidelity.value));
        cells.extend(columns.iter().map(|(_, of)| of(rung).map_or_else(String::new, percent)));
        table.add_row(cells);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let plus = if bundle.rungs.iter().any(|rung| rung.corrected) { "\n+ with corrected matrices" } else { "" };
    let merged = if merging { "\nmerged: tokens that all blocks merge into others" } else { "" };
    let integers =
        if integers { "\nin int8; fidelity to the dense model in f32, and to the same rung in f32" } else { "" };
    let left_out = match bundle.left_out.as_slice() {
        [] => String::new(),
        rungs => format!("\nnot in the integer model: {}", list(rungs)),
    };
    format!("{}\n{table}{plus}{merged}{integers}{left_out}", bundle.name)
}

/// Such as `rung 3` or `rungs 0, 1, 2`.
pub(super) fn list(rungs: &[usize]) -> String {
    let names: Vec<String> = rungs.iter().map(usize::to_string).collect();
    format!("rung{} {}", if rungs.len() == 1 { "" } else { "s" }, names.join(", "))
}

fn percent(accuracy: Accuracy) -> String {
    format!("{:.1} ±{:.1}", accuracy.value * 100.0, (accuracy.high - accuracy.low) * 50.0)
}
