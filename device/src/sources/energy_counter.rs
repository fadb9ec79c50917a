//! Energy counters of x86 processors (RAPL): power is their rise over time.
//!
//! <https://docs.kernel.org/power/powercap/powercap.html>. Most systems let only
//! root read them.

use std::path::PathBuf;

use headroom_shared::{Energy, Power, TimeSpan};

use super::attribute::Attribute;
use super::gauge::Tracked;
use super::tree::{self, Tree, file_name};
use super::{Device, Pass};
use crate::reading::{Measurement, Missing};

/// Counters rise about once a millisecond; shorter spans tell nothing.
const SHORTEST_SPAN: TimeSpan = TimeSpan::from_nanoseconds(20_000_000);

/// The energy that a part of the processor, or the whole platform, has taken.
#[derive(Debug)]
pub struct EnergyCounter {
    /// The kernel's name: `package-0`, `psys` (the platform), `core`, `uncore`, `dram`.
    pub name: String,
    /// Its folder, whose name is unique, such as `intel-rapl:0:1`.
    pub folder: PathBuf,
    zone: String,
    microjoules: Attribute,
    /// Where the counter starts again at 0.
    range: u64,
    last: Option<(u64, TimeSpan)>,
    power: Tracked<Power>,
}

impl EnergyCounter {
    /// The mean since the pass before.
    #[must_use]
    pub fn power(&self) -> Measurement<Power> {
        self.power.value()
    }

    /// Whether it is a whole package, memory or the platform, and no part of another counter.
    #[must_use]
    pub fn is_in_total(&self) -> bool {
        self.is_platform() || self.name.starts_with("package-") || self.name == "dram"
    }

    /// Whether it counts for the whole machine.
    pub(super) fn is_platform(&self) -> bool {
        self.name == "psys"
    }

    fn open(folder: PathBuf) -> Option<Self> {
        let name = tree::text(&folder.join("name"))?;
        let range = tree::number(&folder.join("max_energy_range_uj")).and_then(|range| u64::try_from(range).ok());
        let microjoules = Attribute::open(folder.join("energy_uj"));
        let zone = file_name(&folder);
        Some(Self { name, folder, zone, microjoules, range: range.unwrap_or(0), last: None, power: Tracked::new() })
    }
}

/// From `before` to `after`, at most once around. `None` where the counter fell
/// and does not say where it starts again.
fn rise(before: u64, after: u64, range: u64) -> Option<Energy> {
    let around = |range: u64| range.checked_sub(before)?.checked_add(after);
    after.checked_sub(before).or_else(|| around(range)).map(Energy::from_microjoules)
}

impl Device for EnergyCounter {
    fn find(tree: &Tree<'_>) -> Vec<Self> {
        // `intel-rapl-mmio:*` counts the same energy once more.
        let folders = tree.entries("sys/class/powercap").into_iter();
        let zones = folders.filter(|folder| file_name(folder).starts_with("intel-rapl:"));
        zones.filter_map(Self::open).collect()
    }

    fn identity(&self) -> &str {
        &self.zone
    }

    fn is_needed(&self) -> bool {
        true
    }

    fn read(&mut self, pass: &mut Pass<'_>) {
        let number = self.microjoules.number(pass.buffer);
        let counter = number.and_then(|number| u64::try_from(number).map_err(|_| Missing::Malformed));
        let counter = match counter {
            Ok(counter) => counter,
            Err(reason) => return self.power.update(Err(reason), pass.now),
        };
        // There is no rise before the second pass, nor after a clock that went back.
        let earlier = self.last.and_then(|(before, at)| Some((before, pass.now.checked_sub(at)?)));
        if earlier.is_some_and(|(_, span)| span < SHORTEST_SPAN) {
            return;
        }
        self.last = Some((counter, pass.now));
        let power = earlier.and_then(|(before, span)| rise(before, counter, self.range)?.over(span));
        self.power.update(power.ok_or(Missing::Unavailable), pass.now);
    }

    fn inherit(&mut self, earlier: &Self) {
        self.last = earlier.last;
        self.power = earlier.power;
    }

    fn close(&mut self) {
        self.microjoules.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_wraps_has_risen() {
        let joules = |microjoules| Some(Energy::from_microjoules(microjoules));
        assert_eq!(rise(5, 7, 100), joules(2));
        assert_eq!(rise(95, 7, 100), joules(12));
        assert_eq!(rise(7, 7, 100), joules(0));
        assert_eq!(rise(7, 5, 0), None);
        assert_eq!(rise(101, 5, 100), None);
    }
}
