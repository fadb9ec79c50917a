//! Cooling devices: whether the kernel cuts clocks at this moment.

use std::path::PathBuf;

use headroom_shared::board::{Capability, SensorLocation};

use super::gauge::Gauge;
use super::tree::{self, Tree, file_name};
use super::{Device, Pass, largest};
use crate::reading::Measurement;

/// Something that the kernel cools with: a clock that it lowers, a fan, an alert.
#[derive(Debug)]
pub struct CoolingDevice {
    /// The kernel's type, such as `cpufreq-cpu0` or `pwm-fan`.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Whether clocks are cut while its state is above 0.
    pub cuts_clocks: bool,
    /// The highest state.
    pub highest_state: Option<u32>,
    state: Gauge<u32>,
}

impl CoolingDevice {
    /// 0 does nothing, the highest cools the most.
    #[must_use]
    pub fn state(&self) -> Measurement<u32> {
        self.state.value()
    }

    fn open(folder: PathBuf, tree: &Tree<'_>) -> Option<Self> {
        let name = tree::text(&folder.join("type"))?;
        let expected = tree.expected(Capability::Throttling).any(
            |find| matches!(find, SensorLocation::CoolingDevice(end) if !is_fan_or_alert(&name) && name.ends_with(end.as_str())),
        );
        let cuts_clocks = expected || cuts_clocks(&name);
        let highest_state = tree::number(&folder.join("max_state")).and_then(state);
        let state = Gauge::open(folder.join("cur_state"), state);
        Some(Self { name, folder, cuts_clocks, highest_state, state })
    }
}

fn state(number: i64) -> Option<u32> {
    u32::try_from(number).ok()
}

/// Whether a cooling device of this type works by cutting clocks. Jetsons have
/// `*-throttle-alert` for what hardware does on its own, device-tree systems
/// `cpufreq-*` and `devfreq-*` (with `thermal-` before it on older kernels), x86
/// `Processor`.
pub(super) fn cuts_clocks(name: &str) -> bool {
    let governed = name.strip_prefix("thermal-").unwrap_or(name);
    name.ends_with("-throttle-alert")
        || governed.starts_with("cpufreq-")
        || governed.starts_with("devfreq-")
        || name == "Processor"
}

/// `hot-surface-alert` is for people, not for clocks.
fn is_fan_or_alert(name: &str) -> bool {
    name.ends_with("-fan") || name == "hot-surface-alert"
}

impl Device for CoolingDevice {
    fn find(tree: &Tree<'_>) -> Vec<Self> {
        let folders = tree.entries("sys/class/thermal").into_iter();
        let devices = folders.filter(|folder| file_name(folder).starts_with("cooling_device"));
        devices.filter_map(|folder| Self::open(folder, tree)).collect()
    }

    fn identity(&self) -> &str {
        &self.name
    }

    fn is_needed(&self) -> bool {
        self.cuts_clocks
    }

    fn read(&mut self, pass: &mut Pass<'_>) {
        self.state.read(pass);
    }

    fn inherit(&mut self, earlier: &Self) {
        self.state.inherit(&earlier.state);
    }

    fn close(&mut self) {
        self.state.close();
    }
}

/// Whether any device cuts clocks.
pub(super) fn throttled(devices: &[CoolingDevice]) -> Measurement<bool> {
    let devices = devices.iter().filter(|device| device.cuts_clocks);
    largest(devices.map(|device| match device.state() {
        Measurement::Measured(state) => Measurement::Measured(state > 0),
        Measurement::Projected { value, age } => Measurement::Projected { value: value > 0, age },
        Measurement::Missing(reason) => Measurement::Missing(reason),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fans_and_alerts_for_people_cut_no_clocks() {
        for name in ["cpu-throttle-alert", "soc012-throttle-alert", "cpufreq-cpu4", "devfreq-17000000.gpu"] {
            assert!(cuts_clocks(name), "{name}");
        }
        for name in ["devfreq-gpu-gpc-0", "thermal-cpufreq-0", "Processor"] {
            assert!(cuts_clocks(name), "{name}");
        }
        for name in ["pwm-fan", "hot-surface-alert", "Fan", "TCC Offset", "intel_powerclamp", "LCD", ""] {
            assert!(!cuts_clocks(name), "{name}");
        }
    }
}
