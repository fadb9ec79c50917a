//! What a check found: tables for people, JSON for reports.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use headroom_device::error_text::with_causes;
use serde::Serialize;

use super::CheckError;
use super::comparison::{Measure, largest};

/// The version of the JSON. A field is only ever added within a version.
pub const REPORT_VERSION: u32 = 2;

/// The whole result of a check.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The version of Headroom.
    pub program: &'static str,
    /// Seconds since 1970 in UTC when the check began, by this machine's clock.
    pub unix_seconds: u64,
    pub machine: Machine,
    pub device: CheckedDevice,
    /// Whether it was a quick check, whose times say little.
    pub quick: bool,
    pub seed: u64,
    /// What was pruned.
    pub model: String,
    /// The hash of the bundle that was made.
    pub bundle_sha256: String,
    /// Whether every check passed.
    pub passed: bool,
    /// Wall time by stage, in order.
    pub stages: Vec<Stage>,
    pub checks: Vec<Check>,
    /// What was not checked, and why.
    pub left_out: Vec<String>,
    /// The rungs, from dense to smallest.
    pub rungs: Vec<RungTimes>,
}

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// What the firmware calls it, with its processor.
    pub name: String,
    pub architecture: &'static str,
    /// Threads that it runs at once.
    pub threads: usize,
    pub operating_system: &'static str,
}

/// What was checked and timed.
#[derive(Clone, Debug, Serialize)]
pub struct CheckedDevice {
    /// `cpu` or `cuda:N`.
    pub device: String,
    pub name: String,
    /// The driver, of a GPU.
    pub driver: Option<String>,
    /// In what the device engine computes there.
    pub precision: &'static str,
    /// What tells the times of the rungs.
    pub clock: &'static str,
}

impl CheckedDevice {
    /// One whose engine cannot be opened.
    pub(super) fn without_engine(gpu: Option<usize>) -> Self {
        Self {
            device: gpu.map_or_else(|| "cpu".into(), |gpu| format!("cuda:{gpu}")),
            name: "not known: its engine was not opened".into(),
            driver: None,
            precision: "none",
            clock: "none",
        }
    }
}

/// The wall time of a stage.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    pub name: String,
    pub seconds: f64,
}

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The stage that made it.
    pub stage: &'static str,
    /// What was compared with what.
    pub comparison: &'static str,
    /// Of which model or rung.
    pub of: String,
    pub measure: Measure,
    /// `null` in JSON where it is not a number, which passes nothing.
    pub found: f64,
    /// The most that passes.
    pub at_most: f64,
    pub passed: bool,
    /// Why there was nothing to compare, where something failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How long a rung takes.
#[derive(Clone, Debug, Serialize)]
pub struct RungTimes {
    pub rung: usize,
    /// Multiply-accumulates of one image.
    pub macs: u64,
    /// As the job measured it.
    pub fidelity: f32,
    /// Median of one inference after others of the same rung, milliseconds; `null` where it failed.
    pub median_ms: Option<f64>,
    /// Median of the first inference after another rung's, milliseconds; `null` where it failed.
    pub after_switch_ms: Option<f64>,
}

impl Check {
    /// Something that failed is a check that did not pass.
    pub(super) fn new(
        stage: &'static str,
        comparison: &'static str,
        of: impl Into<String>,
        (measure, at_most): (Measure, f64),
        found: Result<f64, CheckError>,
    ) -> Self {
        let error = found.as_ref().err().map(|error| with_causes(error));
        let found = found.unwrap_or(f64::NAN);
        Self { stage, comparison, of: of.into(), measure, found, at_most, passed: found <= at_most, error }
    }

    fn failure(&self) -> String {
        let Self { stage, comparison, of, measure, found, at_most, error, .. } = self;
        let why = error.clone();
        let why = why.unwrap_or_else(|| format!("{} {found:.1e}, at most {at_most:.0e}", measure.text()));
        format!("FAILED {stage}, {of}, {comparison}: {why}")
    }
}

impl CheckReport {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let stages: Vec<String> =
            self.stages.iter().map(|stage| format!("{} {:.2} s", stage.name, stage.seconds)).collect();
        let quick = if self.quick { "; a quick check, whose times say little" } else { "" };
        let CheckedDevice { device, name, driver, precision, clock } = &self.device;
        let driver = driver.as_ref().map(|driver| format!(", {driver}")).unwrap_or_default();
        let mut lines = vec![
            format!("{device}: {name}{driver}, {precision}; times by {clock}{quick}"),
            format!("{}, {} threads", self.machine.name, self.machine.threads),
            self.rungs_table(),
            self.checks_table(),
            stages.join(", "),
        ];
        lines.extend(self.left_out.iter().map(|what| format!("not checked: {what}")));
        lines.extend(self.checks.iter().filter(|check| !check.passed).map(Check::failure));
        let failed = self.checks.iter().filter(|check| !check.passed).count();
        let all = self.checks.len();
        lines.push(match failed {
            0 => format!("all {all} checks passed"),
            _ => format!("{failed} of {all} checks FAILED"),
        });
        lines.join("\n")
    }

    fn rungs_table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        table.set_header(["rung", "MACs", "share", "fidelity", "median ms", "after switch ms"]);
        let milliseconds = |time: Option<f64>| time.map_or_else(|| "-".into(), |time| format!("{time:.3}"));
        let dense = self.rungs.first().map_or(1, |rung| rung.macs);
        for rung in &self.rungs {
            table.add_row([
                rung.rung.to_string(),
                rung.macs.to_string(),
                format!("{:.1} %", 100.0 * rung.macs as f64 / dense as f64),
                format!("{:.4}", rung.fidelity),
                milliseconds(rung.median_ms),
                milliseconds(rung.after_switch_ms),
            ]);
        }
        table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        table.to_string()
    }

    /// A line for all checks of the same kind, with the worst.
    fn checks_table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        table.set_header(["stage", "compared", "checks", "passed", "measure", "worst", "at most"]);
        let kind = |check: &Check| (check.stage, check.comparison, check.measure);
        let mut kinds: Vec<_> = Vec::new();
        for check in &self.checks {
            if !kinds.contains(&kind(check)) {
                kinds.push(kind(check));
            }
        }
        for one in kinds {
            let checks: Vec<&Check> = self.checks.iter().filter(|check| kind(check) == one).collect();
            let worst = largest(checks.iter().map(|check| check.found));
            table.add_row([
                one.0.to_owned(),
                one.1.to_owned(),
                checks.len().to_string(),
                checks.iter().filter(|check| check.passed).count().to_string(),
                one.2.text().to_owned(),
                format!("{worst:.1e}"),
                format!("{:.0e}", checks[0].at_most),
            ]);
        }
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_within_its_limit_passes() {
        let check = |found| Check::new("elastic", "a with b", "rung 1", (Measure::RelativeDifference, 1e-4), found);
        assert!(check(Ok(1e-4)).passed);
        assert!(
            !check(Ok(1.1e-4)).passed && !check(Ok(f64::NAN)).passed && !check(Err(CheckError::Interrupted)).passed
        );
        let text = check(Ok(0.02)).failure();
        assert_eq!(text, "FAILED elastic, rung 1, a with b: relative difference 2.0e-2, at most 1e-4");
        assert_eq!(check(Err(CheckError::Interrupted)).failure(), "FAILED elastic, rung 1, a with b: interrupted");
    }
}
