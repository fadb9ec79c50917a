//! Temperatures of hwmon chips: what x86 has instead of thermal zones.

use std::path::PathBuf;

use headroom_shared::Temperature;
use headroom_shared::board::{Capability, SensorLocation};

use super::gauge::{self, Gauge};
use super::tree::{self, Hwmon, Tree, file_name};
use super::{Device, Pass};
use crate::reading::Measurement;

/// The chips that tell the temperature of the processor: Intel, AMD (two
/// drivers), Arm boards.
const PROCESSORS: [&str; 4] = ["coretemp", "k10temp", "zenpower", "cpu_thermal"];

/// A temperature that a chip tells.
#[derive(Debug)]
pub struct ChipTemperature {
    /// Chip and label, such as `coretemp Package id 0`.
    pub name: String,
    /// The chip's folder.
    pub folder: PathBuf,
    /// Whether it is part of the governor's reading.
    pub counts: bool,
    /// Where the chip's driver says that cooling should be at its most.
    pub maximum: Option<Temperature>,
    /// Where the chip protects itself.
    pub critical: Option<Temperature>,
    temperature: Gauge<Temperature>,
}

impl ChipTemperature {
    /// What it says.
    #[must_use]
    pub fn temperature(&self) -> Measurement<Temperature> {
        self.temperature.value()
    }

    fn open(chip: &Hwmon, number: &str, tree: &Tree<'_>) -> Self {
        let of = |what: &str| chip.folder.join(format!("temp{number}_{what}"));
        let label = tree::text(&of("label")).unwrap_or_else(|| format!("temp{number}"));
        let limit = |what: &str| tree::number(&of(what)).and_then(gauge::temperature);
        let counts = match tree.profile {
            Some(_) => tree
                .expected(Capability::Temperature)
                .any(|find| matches!(find, SensorLocation::Hwmon(name) if name.as_str() == chip.name)),
            None => PROCESSORS.contains(&chip.name.as_str()),
        };
        Self {
            name: format!("{} {label}", chip.name),
            folder: chip.folder.clone(),
            counts,
            maximum: limit("max"),
            critical: limit("crit"),
            temperature: Gauge::open(of("input"), gauge::temperature),
        }
    }
}

impl Device for ChipTemperature {
    fn find(tree: &Tree<'_>) -> Vec<Self> {
        let mut found = Vec::new();
        for chip in tree.hwmon() {
            for file in tree::entries(&chip.folder) {
                let name = file_name(&file);
                if let Some(number) = name.strip_prefix("temp").and_then(|rest| rest.strip_suffix("_input")) {
                    found.push(Self::open(&chip, number, tree));
                }
            }
        }
        found
    }

    fn identity(&self) -> &str {
        &self.name
    }

    fn is_needed(&self) -> bool {
        self.counts
    }

    fn read(&mut self, pass: &mut Pass<'_>) {
        self.temperature.read(pass);
    }

    fn inherit(&mut self, earlier: &Self) {
        self.temperature.inherit(&earlier.temperature);
    }

    fn close(&mut self) {
        self.temperature.close();
    }
}
