//! Under which circumstances a measurement holds.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::precision::Precision;
use crate::sources::Sensors;

/// How inferences run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Execution<'a> {
    pub precision: Precision,
    /// Threads of one inference, at least 1.
    pub threads: usize,
    /// The name of what infers, where it is not the CPU.
    pub accelerator: Option<&'a str>,
}

/// Everything that times depend on and that does not change from one second to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The machine, as its firmware calls it ([`machine_name`]).
    pub board: String,
    /// The name of the power mode, or its number; absent where there is none.
    pub power_mode: Option<String>,
    /// Texture processing clusters of the GPU that are on; absent where there is none that says so.
    pub gpu_tpcs: Option<u32>,
    /// Of the inferences. Absent in a file is f32: files from before there was another are still right, and a program
    /// from that time reads what was measured in f32.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// The name of the accelerator that infers; absent where it is the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// Threads of one inference.
    pub threads: u32,
    /// The bundle's hash.
    pub bundle_sha256: String,
}

impl Key {
    /// Of the machine whose files are under `root` (`/`, or a copy of a board's), as `sensors` found it.
    ///
    /// Reads all sensors once, because the power mode is not part of an ordinary pass.
    #[must_use]
    pub fn of(root: &Path, sensors: &mut Sensors, execution: Execution<'_>, bundle_sha256: &str) -> Self {
        sensors.read_everything(headroom_shared::TimeSpan::from_nanoseconds(0));
        let mode = sensors.power_mode();
        let number = || mode.id().value().map(|id| id.to_string());
        let tpcs: Vec<u32> = sensors.gpus().iter().filter_map(|gpu| gpu.tpcs).collect();
        Self {
            board: machine_name(root),
            power_mode: mode.name().map(str::to_owned).or_else(number),
            gpu_tpcs: tpcs.iter().copied().max(),
            precision: execution.precision,
            accelerator: execution.accelerator.map(str::to_owned),
            threads: u32::try_from(execution.threads).unwrap_or(u32::MAX),
            bundle_sha256: bundle_sha256.to_owned(),
        }
    }

    /// The first part in which `self` (found) differs from `other` (expected): its name, found and expected.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
        let count = |value: Option<u32>| value.map_or_else(|| "none".into(), |value| value.to_string());
        let parts = [
            ("bundle", self.bundle_sha256.clone(), other.bundle_sha256.clone()),
            ("board", self.board.clone(), other.board.clone()),
            ("power mode", known(&self.power_mode), known(&other.power_mode)),
            ("TPC count", count(self.gpu_tpcs), count(other.gpu_tpcs)),
            ("precision", self.precision.to_string(), other.precision.to_string()),
            ("accelerator", known(&self.accelerator), known(&other.accelerator)),
            ("threads", self.threads.to_string(), other.threads.to_string()),
        ];
        parts.into_iter().find(|(_, found, expected)| found != expected)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.board)?;
        if let Some(mode) = &self.power_mode {
            write!(formatter, ", power mode {mode}")?;
        }
        if let Some(tpcs) = self.gpu_tpcs {
            write!(formatter, ", {tpcs} TPCs")?;
        }
        if let Some(accelerator) = &self.accelerator {
            write!(formatter, ", {accelerator}")?;
        }
        let plural = if self.threads == 1 { "" } else { "s" };
        write!(formatter, ", {} thread{plural}", self.threads)?;
        if self.precision.is_f32() { Ok(()) } else { write!(formatter, ", {}", self.precision) }
    }
}

/// What the firmware calls the machine whose files are under `root`: the model of the device tree (boards) or of DMI
/// with the processor's (PCs), or at least the architecture.
#[must_use]
pub fn machine_name(root: &Path) -> String {
    let read = |path: &str| {
        let bytes = std::fs::read(root.join(path)).ok()?;
        let text = String::from_utf8_lossy(&bytes).trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned();
        // Control characters have no place in a name.
        (!text.is_empty()).then(|| text.replace(char::is_control, " "))
    };
    if let Some(model) = read("proc/device-tree/model") {
        return model;
    }
    let processor = std::fs::read_to_string(root.join("proc/cpuinfo")).ok().and_then(|text| {
        let value = text.lines().find_map(|line| line.strip_prefix("model name"))?.trim_start();
        Some(value.strip_prefix(':')?.trim().to_owned())
    });
    let dmi = ["sys_vendor", "product_name"].map(|name| read(&format!("sys/class/dmi/id/{name}")));
    let parts: Vec<String> = dmi.into_iter().chain([processor]).flatten().collect();
    if parts.is_empty() { std::env::consts::ARCH.to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn a_board_is_named_by_its_device_tree() {
        let root = tree(&[
            ("proc/device-tree/model", "NVIDIA Jetson Orin Nano Developer Kit\0"),
            ("proc/cpuinfo", "model name\t: ARMv8 Processor rev 1 (v8l)\n"),
        ]);
        assert_eq!(machine_name(root.path()), "NVIDIA Jetson Orin Nano Developer Kit");
    }

    #[test]
    fn a_pc_is_named_by_dmi_and_processor_and_anything_else_by_its_architecture() {
        let root = tree(&[
            ("sys/class/dmi/id/sys_vendor", "Framework\n"),
            ("sys/class/dmi/id/product_name", "Laptop 13\n"),
            ("proc/cpuinfo", "processor\t: 0\nmodel name\t: AMD Ryzen 7\nmodel name\t: AMD Ryzen 7\n"),
        ]);
        assert_eq!(machine_name(root.path()), "Framework Laptop 13 AMD Ryzen 7");
        assert_eq!(machine_name(tree(&[]).path()), std::env::consts::ARCH);
    }

    #[test]
    fn power_mode_and_clusters_of_a_jetson_are_part_of_the_key() {
        let root = tree(&[
            ("proc/device-tree/model", "Jetson\0"),
            ("var/lib/nvpmodel/status", "pmode:0002\n"),
            ("etc/nvpmodel.conf", "< POWER_MODEL ID=2 NAME=MODE_30W >\n"),
        ]);
        let mut sensors = Sensors::discover(root.path(), None);
        let key = Key::of(root.path(), &mut sensors, Execution { threads: 2, ..Execution::default() }, "ab");
        assert_eq!(key.to_string(), "Jetson, power mode MODE_30W, 2 threads");
        let other = Key { power_mode: Some("MAXN".into()), ..key.clone() };
        assert_eq!(key.difference(&key), None);
        let int8 = Key { precision: Precision::Int8, ..key.clone() };
        assert_eq!(int8.to_string(), "Jetson, power mode MODE_30W, 2 threads, int8");
        assert_eq!(int8.difference(&key), Some(("precision", "int8".into(), "f32".into())));
        let gpu = Key { precision: Precision::F16, accelerator: Some("Orin".into()), threads: 1, ..key.clone() };
        assert_eq!(gpu.to_string(), "Jetson, power mode MODE_30W, Orin, 1 thread, f16");
        let faster = Key { accelerator: Some("Thor".into()), ..gpu.clone() };
        assert_eq!(faster.difference(&gpu), Some(("accelerator", "Thor".into(), "Orin".into())));
        assert_eq!(other.difference(&key), Some(("power mode", "MAXN".into(), "MODE_30W".into())));
    }
}
