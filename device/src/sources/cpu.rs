//! The clocks of the processor cores.

use std::path::PathBuf;

use headroom_shared::Frequency;

use super::gauge::{self, Gauge};
use super::tree::{self, Tree, file_name};
use super::{Device, Pass};
use crate::reading::Measurement;

/// Cores that share a clock: a policy of cpufreq.
#[derive(Debug)]
pub struct CpuClock {
    /// Such as `policy0`.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The highest clock that the hardware has.
    pub maximum: Option<Frequency>,
    frequency: Gauge<Frequency>,
    measured: Gauge<Frequency>,
    cap: Gauge<Frequency>,
}

impl CpuClock {
    /// As the driver set it; half-clock throttling does not show.
    #[must_use]
    pub fn frequency(&self) -> Measurement<Frequency> {
        self.frequency.value()
    }

    /// As the hardware counts it, half-clock throttling included. Most systems
    /// let only root read it.
    #[must_use]
    pub fn measured(&self) -> Measurement<Frequency> {
        self.measured.value()
    }

    /// The highest clock that the power mode, or heat, allows.
    #[must_use]
    pub fn cap(&self) -> Measurement<Frequency> {
        self.cap.value()
    }

    fn open(folder: PathBuf) -> Option<Self> {
        let gauge = |name: &str| Gauge::open(folder.join(name), gauge::kilohertz);
        let frequency = gauge("scaling_cur_freq");
        frequency.is_there().then(|| Self {
            name: file_name(&folder),
            maximum: tree::number(&folder.join("cpuinfo_max_freq")).and_then(gauge::kilohertz),
            frequency,
            measured: gauge("cpuinfo_cur_freq"),
            cap: gauge("scaling_max_freq"),
            folder: folder.clone(),
        })
    }
}

impl Device for CpuClock {
    fn find(tree: &Tree<'_>) -> Vec<Self> {
        let folders = tree.entries("sys/devices/system/cpu/cpufreq").into_iter();
        let policies = folders.filter(|folder| file_name(folder).starts_with("policy"));
        policies.filter_map(Self::open).collect()
    }

    fn identity(&self) -> &str {
        &self.name
    }

    fn is_needed(&self) -> bool {
        false
    }

    fn read(&mut self, pass: &mut Pass<'_>) {
        self.frequency.read(pass);
        self.measured.read(pass);
        self.cap.read(pass);
    }

    fn inherit(&mut self, earlier: &Self) {
        self.frequency.inherit(&earlier.frequency);
        self.measured.inherit(&earlier.measured);
        self.cap.inherit(&earlier.cap);
    }

    fn close(&mut self) {
        self.frequency.close();
        self.measured.close();
        self.cap.close();
    }
}
