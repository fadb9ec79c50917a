//! What a check found: a table for people, JSON for reports.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

/// The version of the JSON. A field is only ever added within a version.
pub const REPORT_VERSION: u32 = 1;

/// The whole result of a check.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The version of Headroom.
    pub program: &'static str,
    /// What was checked and timed.
    pub device: String,
    /// The processors of this machine: its architecture and how many it offers.
    pub machine: String,
    /// Whether it was a quick check, whose times say little.
    pub quick: bool,
    /// The bundle's hash.
    pub bundle_sha256: String,
    /// Whether every rung agrees with the CPU engine on one thread.
    pub passed: bool,
    /// The lowest cosine that agrees.
    pub lowest_cosine: f64,
    /// Wall time by stage, in order.
    pub stages: Vec<Stage>,
    /// The rungs, from dense to smallest.
    pub rungs: Vec<RungCheck>,
}

/// The wall time of a stage.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    pub name: String,
    pub seconds: f64,
}

/// What was found of a rung.
#[derive(Clone, Debug, Serialize)]
pub struct RungCheck {
    pub rung: usize,
    /// Multiply-accumulates of one image.
    pub macs: u64,
    /// Of the embedding and the CPU engine's, of one image.
    pub cosine: f64,
    /// The largest difference of a value of the embedding, over the largest value.
    pub largest_difference: f64,
    pub agrees: bool,
    /// Median of one inference after others of the same rung, milliseconds.
    pub median_ms: f64,
    /// Median of the first inference after another rung's, milliseconds.
    pub after_switch_ms: f64,
}

impl CheckReport {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        table.set_header(["rung", "MACs", "share", "cosine", "difference", "median ms", "after switch ms", "agrees"]);
        let dense = self.rungs.first().map_or(1, |rung| rung.macs);
        for rung in &self.rungs {
            table.add_row([
                rung.rung.to_string(),
                rung.macs.to_string(),
                format!("{:.1} %", 100.0 * rung.macs as f64 / dense as f64),
                format!("{:.6}", rung.cosine),
                format!("{:.1e}", rung.largest_difference),
                format!("{:.3}", rung.median_ms),
                format!("{:.3}", rung.after_switch_ms),
                if rung.agrees { "yes".into() } else { "NO".into() },
            ]);
        }
        table.column_iter_mut().take(7).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        let stages: Vec<String> =
            self.stages.iter().map(|stage| format!("{} {:.2} s", stage.name, stage.seconds)).collect();
        let quick = if self.quick { "; a quick check, whose times say little" } else { "" };
        let verdict = if self.passed { "every rung agrees with" } else { "NOT every rung agrees with" };
        format!(
            "{table}\n{} on {}{quick}\n{}\n{verdict} the CPU engine on one thread (cosine at least {})",
            self.device,
            self.machine,
            stages.join(", "),
            self.lowest_cosine
        )
    }
}
