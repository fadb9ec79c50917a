//! How long it will take, roughly.

use headroom_shared::Sourced;
use headroom_shared::board::Chip;
use serde::Serialize;

use super::plan::PlannedWrite;

/// A number of the board's profile, and how far it can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rate {
    pub value: u32,
    /// `vendor`, `measured` or `estimated`.
    pub origin: String,
}

impl From<Sourced<u32>> for Rate {
    fn from(rate: Sourced<u32>) -> Self {
        Self { value: rate.value, origin: rate.origin.to_string() }
    }
}

/// The rates and what follows from them. Sectors are erased one after the other, and every byte goes through the probe
/// twice: once to be written and once to be compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub seconds: f64,
    pub erase_seconds: f64,
    pub program_seconds: f64,
    pub transfer_seconds: f64,
    pub sector_erase_milliseconds: Rate,
    pub program_bytes_per_second: Rate,
    pub transfer_bytes_per_second: Rate,
}

impl Estimate {
    /// The estimate for these writes.
    #[must_use]
    pub fn of(writes: &[PlannedWrite], chip: &Chip) -> Self {
        let sectors: usize = writes.iter().map(|write| write.sectors.len()).sum();
        let bytes: u64 = writes.iter().map(|write| write.bytes).sum();
        let erase_seconds = sectors as f64 * f64::from(chip.sector_erase_milliseconds.value) / 1e3;
        let program_seconds = bytes as f64 / f64::from(chip.program_bytes_per_second.value);
        let transfer_seconds = 2.0 * bytes as f64 / f64::from(chip.transfer_bytes_per_second.value);
        Self {
            seconds: erase_seconds + program_seconds + transfer_seconds,
            erase_seconds,
            program_seconds,
            transfer_seconds,
            sector_erase_milliseconds: chip.sector_erase_milliseconds.into(),
            program_bytes_per_second: chip.program_bytes_per_second.into(),
            transfer_bytes_per_second: chip.transfer_bytes_per_second.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use headroom_shared::board::DeploymentMethod;

    use super::*;
    use crate::flash::probe::plan::{Content, Sector};

    #[test]
    fn sectors_bytes_and_rates_make_the_time() {
        let nucleo = crate::boards::find("nucleo-h743zi").unwrap().profile;
        let DeploymentMethod::ProbeRs(probe) = nucleo.deployment.method else { panic!("a probe") };
        let sector = |address| Sector { address, bytes: 0x2_0000 };
        let write =
            |content, sectors| PlannedWrite { content, memory: "flash".into(), address: 0, bytes: 80_000, sectors };
        let writes = [write(Content::Firmware, vec![sector(0)]), write(Content::Bundle, vec![sector(1), sector(2)])];
        let estimate = Estimate::of(&writes, &probe.chip.unwrap());
        // 3 sectors of a second; 160 kB at 320 kB/s; 320 kB at 100 kB/s.
        assert_eq!((estimate.erase_seconds, estimate.program_seconds, estimate.transfer_seconds), (3.0, 0.5, 3.2));
        assert!((estimate.seconds - 6.7).abs() < 1e-9);
        assert_eq!(estimate.sector_erase_milliseconds, Rate { value: 1_000, origin: "vendor".into() });
    }
}
