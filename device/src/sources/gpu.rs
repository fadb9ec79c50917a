//! The clock and load of the GPU.

use std::path::{Path, PathBuf};

use headroom_shared::Frequency;
use headroom_shared::board::{Capability, SensorLocation};

use super::gauge::{self, Gauge};
use super::tree::{self, Tree, file_name};
use super::{Device, Pass};
use crate::reading::Measurement;

/// The device-tree nodes of GPUs: Volta, Pascal, Ampere and Blackwell of Jetsons, and any other.
const NODES: [&str; 5] = ["gv11b", "gp10b", "ga10b", "gb10b", "gpu"];

/// A part of the GPU with a clock of its own.
#[derive(Debug)]
pub struct Gpu {
    /// The name of the devfreq device, such as `17000000.gpu`.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The highest clock that the hardware has.
    pub maximum: Option<Frequency>,
    /// Texture processing clusters that are on (two streaming multiprocessors
    /// each). The power mode sets it; clocks alone are no speed.
    pub tpcs: Option<u32>,
    frequency: Gauge<Frequency>,
    cap: Gauge<Frequency>,
    load: Gauge<u16>,
}

impl Gpu {
    /// As the driver set it; half-clock throttling does not show.
    #[must_use]
    pub fn frequency(&self) -> Measurement<Frequency> {
        self.frequency.value()
    }

    /// The highest clock that the power mode allows.
    #[must_use]
    pub fn cap(&self) -> Measurement<Frequency> {
        self.cap.value()
    }

    /// Busy time in thousandths. Thor has none here.
    #[must_use]
    pub fn load(&self) -> Measurement<u16> {
        self.load.value()
    }

    fn open(folder: PathBuf, tree: &Tree<'_>) -> Option<Self> {
        let name = file_name(&folder);
        let device = folder.join("device");
        let node = tree::text(&device.join("of_node/name"));
        if !is_gpu(&name, node.as_deref(), tree) {
            return None;
        }
        let maximum = tree::text(&folder.join("available_frequencies"))
            .and_then(|all| all.split_whitespace().filter_map(|hertz| hertz.parse().ok()).max())
            .and_then(gauge::hertz);
        Some(Self {
            name,
            maximum,
            tpcs: tpcs(&device, node.as_deref(), tree),
            frequency: Gauge::open(folder.join("cur_freq"), gauge::hertz),
            cap: Gauge::open(folder.join("max_freq"), gauge::hertz),
            load: Gauge::open(device.join("load"), |load| u16::try_from(load).ok().filter(|load| *load <= 1000)),
            folder,
        })
    }
}

/// By the node where there is one. Thor has none: its devices are called
/// `gpu-gpc-0` and `gpu-nvd-0`.
fn is_gpu(name: &str, node: Option<&str>, tree: &Tree<'_>) -> bool {
    let expected = |node: &str| {
        let mut locations = tree.expected(Capability::GpuFrequency);
        locations.any(|find| matches!(find, SensorLocation::Devfreq(wanted) if wanted.as_str() == node))
    };
    match node {
        Some(node) => NODES.contains(&node) || expected(node),
        None => name.starts_with("gpu-") || expected(name),
    }
}

/// The clusters of the chip less those that `tpc_pg_mask` switches off. Orin has
/// 8, Xavier 4; of other chips the number is not known.
fn tpcs(device: &Path, node: Option<&str>, tree: &Tree<'_>) -> Option<u32> {
    let text = tree::text(&device.join("tpc_pg_mask"))?;
    let off = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None => text.parse().ok()?,
    };
    let compatible = tree::text(&tree.root.join("sys/firmware/devicetree/base/compatible")).unwrap_or_default();
    let all: u32 = match node {
        Some("ga10b") => 8,
        Some("gv11b") => 4,
        _ if compatible.contains("nvidia,tegra234") => 8,
        _ if compatible.contains("nvidia,tegra194") => 4,
        _ => return None,
    };
    all.checked_sub((off & ((1 << all) - 1)).count_ones())
}

impl Device for Gpu {
    fn find(tree: &Tree<'_>) -> Vec<Self> {
        let folders = tree.entries("sys/class/devfreq").into_iter();
        folders.filter_map(|folder| Self::open(folder, tree)).collect()
    }

    fn identity(&self) -> &str {
        &self.name
    }

    fn is_needed(&self) -> bool {
        false
    }

    fn read(&mut self, pass: &mut Pass<'_>) {
        self.frequency.read(pass);
        self.cap.read(pass);
        self.load.read(pass);
    }

    fn inherit(&mut self, earlier: &Self) {
        self.frequency.inherit(&earlier.frequency);
        self.cap.inherit(&earlier.cap);
        self.load.inherit(&earlier.load);
    }

    fn close(&mut self) {
        self.frequency.close();
        self.cap.close();
        self.load.close();
    }
}
