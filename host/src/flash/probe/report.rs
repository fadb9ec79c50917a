//! What is planned and what came of it, for people and as JSON.

use std::path::PathBuf;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use serde::Serialize;

use super::estimate::{Estimate, Rate};
use super::plan::{PlannedWrite, Sector};
use crate::prune::with_prefix;

/// The version of the JSON that is printed for boards that a probe programs. A field is only ever added within a version.
pub const PROBE_VERSION: u32 = 1;

/// What is planned, and whether it was done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProbeReport {
    /// [`PROBE_VERSION`].
    pub version: u32,
    pub target: String,
    /// The chip as probe-rs calls it.
    pub chip: String,
    /// The SHA-256 of the bundle's manifest.
    pub bundle: String,
    pub firmware: Option<PathBuf>,
    /// In the order in which they are done.
    pub writes: Vec<PlannedWrite>,
    pub estimate: Estimate,
    /// Whether it was written, compared with what was sent, and started; not with `--dry-run`.
    pub programmed: bool,
    /// The probe that did it.
    pub probe: Option<String>,
}

impl ProbeReport {
    /// A table with a line for each content and memory.
    #[must_use]
    pub fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        table.set_header(["content", "address", "bytes", "erased before", "memory"]);
        for write in &self.writes {
            table.add_row([
                write.content.to_string(),
                format!("{:#010x}", write.address),
                write.bytes.to_string(),
                runs(&write.sectors),
                write.memory.clone(),
            ]);
        }
        let outcome = match &self.probe {
            Some(probe) => format!("written, compared and started, through {probe}"),
            None => "nothing was changed".to_owned(),
        };
        format!(
            "board    {}, chip {}\nbundle   {}\n{table}\n{}\n{outcome}",
            self.target,
            self.chip,
            self.bundle,
            self.estimate_text()
        )
    }

    fn estimate_text(&self) -> String {
        let estimate = &self.estimate;
        let of = |rate: &Rate, text: String| format!("{text}, {}", rate.origin);
        let per_second = |rate: &Rate| of(rate, format!("{}/s", with_prefix(rate.value.into(), "B")));
        let erase = &estimate.sector_erase_milliseconds;
        format!(
            "estimate {:.1} s: erase {:.1} s ({}), program {:.1} s ({}), through the probe and back {:.1} s ({}); \
             rates from boards/{}/board.toml",
            estimate.seconds,
            estimate.erase_seconds,
            of(erase, format!("{} ms a sector", erase.value)),
            estimate.program_seconds,
            per_second(&estimate.program_bytes_per_second),
            estimate.transfer_seconds,
            per_second(&estimate.transfer_bytes_per_second),
            self.target
        )
    }
}

/// `2 x 128 KiB at 0x08000000` for each row of equal sectors.
fn runs(sectors: &[Sector]) -> String {
    let follows = |a: &Sector, b: &Sector| a.bytes == b.bytes && a.address + a.bytes == b.address;
    let text = |run: &[Sector]| format!("{} x {} at {:#010x}", run.len(), size(run[0].bytes), run[0].address);
    sectors.chunk_by(follows).map(text).collect::<Vec<_>>().join(", ")
}

/// As data sheets write the sizes of sectors.
fn size(bytes: u64) -> String {
    if bytes.is_multiple_of(1024) { format!("{} KiB", bytes / 1024) } else { format!("{bytes} B") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sectors_are_told_together() {
        let sector = |address, bytes| Sector { address, bytes };
        let sectors = [sector(0, 4096), sector(4096, 4096), sector(8192, 500), sector(16_384, 500)];
        assert_eq!(runs(&sectors), "2 x 4 KiB at 0x00000000, 1 x 500 B at 0x00002000, 1 x 500 B at 0x00004000");
    }
}
