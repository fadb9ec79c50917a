//! Thermal zones with their trips, and what each trip does.

use std::path::{Path, PathBuf};

use headroom_shared::Temperature;
use headroom_shared::board::{Capability, SensorLocation};

use super::gauge::{self, Gauge};
use super::tree::{self, Tree, file_name};
use super::{Device, Pass, cooling};
use crate::reading::Measurement;

/// The most trips, and the most bindings to cooling devices, that a zone is asked for.
const MAX_TRIPS: usize = 16;
const MAX_BINDINGS: usize = 32;

/// A part of the board whose temperature the kernel watches.
#[derive(Debug)]
pub struct Zone {
    /// The kernel's type, such as `cpu-thermal`.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Whether it is part of the governor's reading.
    pub counts: bool,
    /// Where the kernel acts, in the kernel's order, which is not that of temperatures.
    pub trips: Vec<Trip>,
    temperature: Gauge<Temperature>,
}

/// A temperature at which the kernel acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trip {
    pub kind: TripKind,
    pub temperature: Temperature,
    /// How far below the trip the action ends.
    pub hysteresis: Option<Temperature>,
    /// The types of the cooling devices that it drives; empty where the tree does not tell.
    pub drives: Vec<String>,
    pub effect: TripEffect,
}

/// The kernel's word for a trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TripKind {
    /// Cools by doing less.
    Passive,
    /// Cools by a fan.
    Active,
    /// Tells the firmware.
    Hot,
    /// Ends in a shutdown.
    Critical,
}

/// What a trip does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TripEffect {
    /// Cuts clocks.
    CutsClocks,
    /// Shuts the system down.
    ShutsDown,
    /// Neither: it drives a fan, or an alert.
    Nothing,
    /// Cuts clocks if it drives a device that does; the tree does not tell.
    Unknown,
}

impl Zone {
    /// The name up to its first `-`, in lower case: the same on all releases of a board.
    #[must_use]
    pub fn stem(&self) -> String {
        stem(&self.name)
    }

    /// What it says.
    #[must_use]
    pub fn temperature(&self) -> Measurement<Temperature> {
        self.temperature.value()
    }

    fn open(folder: PathBuf, tree: &Tree<'_>) -> Option<Self> {
        let name = tree::text(&folder.join("type"))?;
        let trips = trips(&folder);
        let counts = if tree.profile.is_some() { is_expected(&name, tree) } else { acts(&name, &trips) };
        let temperature = Gauge::open(folder.join("temp"), gauge::temperature);
        Some(Self { name, folder, counts, trips, temperature })
    }
}

fn stem(name: &str) -> String {
    name.split('-').next().unwrap_or_default().to_ascii_lowercase()
}

fn is_expected(name: &str, tree: &Tree<'_>) -> bool {
    let stem = stem(name);
    tree.expected(Capability::Temperature)
        .any(|find| matches!(find, SensorLocation::ThermalZone(wanted) if wanted.eq_ignore_ascii_case(&stem)))
}

/// Whether clocks depend on a zone of a board without a profile: it has a trip
/// that cuts them or shuts down, or is that of a processor.
fn acts(name: &str, trips: &[Trip]) -> bool {
    let stem = stem(name);
    let processor = ["cpu", "gpu", "tj", "x86_pkg_temp"].contains(&stem.as_str()) || stem.starts_with("soc");
    processor || trips.iter().any(|trip| matches!(trip.effect, TripEffect::CutsClocks | TripEffect::ShutsDown))
}

fn trips(zone: &Path) -> Vec<Trip> {
    let bindings = bindings(zone);
    let trip = |index: usize| {
        let of = |what: &str| zone.join(format!("trip_point_{index}_{what}"));
        let kind = match tree::text(&of("type"))?.as_str() {
            "passive" => TripKind::Passive,
            "active" => TripKind::Active,
            "hot" => TripKind::Hot,
            "critical" => TripKind::Critical,
            _ => return None,
        };
        // Trips at or below 0 °C are unset.
        let temperature = tree::number(&of("temp")).and_then(gauge::temperature).filter(|t| t.as_millidegrees() > 0)?;
        let hysteresis = tree::number(&of("hyst")).and_then(gauge::temperature);
        let bound = bindings.iter().filter(|(trip, _)| *trip == index as i64);
        let drives: Vec<String> = bound.filter_map(|(_, device)| device.clone()).collect();
        let effect = match kind {
            TripKind::Critical => TripEffect::ShutsDown,
            TripKind::Active | TripKind::Hot => TripEffect::Nothing,
            TripKind::Passive if drives.iter().any(|device| cooling::cuts_clocks(device)) => TripEffect::CutsClocks,
            TripKind::Passive if bindings.is_empty() || bindings.iter().any(|(_, device)| device.is_none()) => {
                TripEffect::Unknown
            }
            TripKind::Passive => TripEffect::Nothing,
        };
        Some(Trip { kind, temperature, hysteresis, drives, effect })
    };
    (0..MAX_TRIPS).filter_map(trip).collect()
}

/// Trip and cooling device of each binding of a zone: the kernel links the
/// devices as `cdevN` and writes the trip's index into `cdevN_trip_point`.
/// A device that cannot be told is `None`.
fn bindings(zone: &Path) -> Vec<(i64, Option<String>)> {
    let binding = |index: usize| {
        let trip = tree::number(&zone.join(format!("cdev{index}_trip_point")))?;
        Some((trip, tree::text(&zone.join(format!("cdev{index}/type")))))
    };
    (0..MAX_BINDINGS).filter_map(binding).collect()
}

impl Device for Zone {
    fn find(tree: &Tree<'_>) -> Vec<Self> {
        let folders = tree.entries("sys/class/thermal").into_iter();
        let zones = folders.filter(|folder| file_name(folder).starts_with("thermal_zone"));
        zones.filter_map(|folder| Self::open(folder, tree)).collect()
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
