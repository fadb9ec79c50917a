//! What is known about a board, as data: limits, sensors, power modes,
//! compute ceilings and deployment.
//!
//! `boards/README.md` describes the file that this is read from. Sensors are
//! named by what they can do and found by what the kernel calls them, never by
//! an index, because indices differ between releases of the same board.
//!
//! A board that runs Linux has power modes, rails and folders; a
//! microcontroller has none of them and a memory map instead. Which of the two
//! a board is follows from how it is [deployed](DeploymentMethod).

mod deployment;
mod microcontroller;
mod validation;

pub use deployment::{Chip, Deployment, DeploymentMethod, ProbeRs, Ssh};
pub use microcontroller::{MemoryRegion, Microcontroller};
pub use validation::BoardError;

use serde::Deserialize;

use crate::fixed_capacity::{List, Text};
use crate::origin::Sourced;
use crate::units::{Frequency, Power, Temperature, TimeSpan};

/// The name of something on a board: a rail, a zone, a power mode.
pub type Name = Text<48>;

/// A file path or a sentence.
pub type Line = Text<128>;

/// Everything about one board.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoardProfile {
    /// What users type after `--target`; also the folder under `boards/`.
    pub name: Name,
    /// For people.
    pub description: Line,
    /// The system on chip.
    pub soc: Name,
    pub identity: Identity,
    pub memory: Memory,
    pub compute: Compute,
    pub power: PowerFigures,
    /// The power modes that the board ships with; none on a microcontroller.
    #[serde(rename = "power_mode", default)]
    pub power_modes: List<PowerMode, 8>,
    /// The name of the power mode that the board boots into, where it has any.
    pub default_power_mode: Option<Name>,
    pub thermal: ThermalLimits,
    /// What can be measured, in order of preference where a capability is there twice.
    #[serde(rename = "sensor")]
    pub sensors: List<Sensor, 16>,
    /// The power rails that the power sensor reports; none on a microcontroller.
    #[serde(rename = "rail", default)]
    pub rails: List<Rail, 8>,
    /// What the rails add up to, where there are any.
    pub total_power: Option<TotalPower>,
    /// The memory map of a board without an operating system.
    pub microcontroller: Option<Microcontroller>,
    pub deployment: Deployment,
}

/// How a board tells which one it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Part numbers of the modules that this profile is for, as they stand in
    /// the `compatible` names of the device tree; of a microcontroller, what is
    /// printed on the chip.
    pub modules: Sourced<List<Name, 8>>,
}

/// The memory that weights are read from: main memory, shared by all processors
/// of the board, or the flash of a microcontroller.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    pub capacity_bytes: Sourced<u64>,
    /// Peak.
    pub bandwidth_bytes_per_second: Sourced<u64>,
    /// The part of the peak that inference reaches, above 0 to 1.
    pub effective_fraction: Sourced<f64>,
}

/// Ceilings of the processor that runs the model. A multiply-accumulate is two
/// operations; peaks are dense ones, in the fastest power mode.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compute {
    /// Which processor these are the ceilings of.
    pub processor: Line,
    pub f32_operations_per_second: Sourced<u64>,
    pub f16_operations_per_second: Sourced<u64>,
    pub int8_operations_per_second: Sourced<u64>,
    /// The part of the peak that a Vision Transformer reaches, above 0 to 1.
    pub effective_fraction: Sourced<f64>,
    /// Per inference, whatever its size: launches, copies, synchronisation.
    #[serde(rename = "overhead_nanoseconds")]
    pub overhead: Sourced<TimeSpan>,
}

/// Power and energy of the whole board.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerFigures {
    /// While nothing runs.
    #[serde(rename = "idle_milliwatts")]
    pub idle: Sourced<Power>,
    /// The most that the module is made to draw.
    #[serde(rename = "maximum_milliwatts")]
    pub maximum: Sourced<Power>,
    /// On top of idle.
    pub picojoules_per_mac: Sourced<f64>,
    /// Of main memory traffic, on top of idle.
    pub picojoules_per_byte: Sourced<f64>,
}

/// A set of clock caps with a name. The watts of the name are not a budget:
/// boards stay below or above them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerMode {
    pub name: Name,
    /// On this board; ids and names are not portable between boards.
    pub id: u8,
    /// The watts of the name, if it has any.
    #[serde(rename = "label_milliwatts")]
    pub label: Option<Sourced<Power>>,
    /// Processor cores that are on.
    pub cores: Sourced<u8>,
    /// `None` is no cap below the maximum of the hardware; so are the next two.
    #[serde(rename = "cpu_hertz")]
    pub cpu: Option<Sourced<Frequency>>,
    #[serde(rename = "gpu_hertz")]
    pub gpu: Option<Sourced<Frequency>>,
    #[serde(rename = "memory_hertz")]
    pub memory: Option<Sourced<Frequency>>,
    /// Streaming multiprocessors of the GPU that are on.
    pub gpu_multiprocessors: Sourced<u8>,
}

/// Temperatures in rising order.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThermalLimits {
    /// Where the governor holds the board.
    #[serde(rename = "target_millidegrees")]
    pub target: Sourced<Temperature>,
    /// Where the kernel starts to cut clocks; of a microcontroller, above which it should not stay.
    #[serde(rename = "passive_millidegrees")]
    pub passive: Sourced<Temperature>,
    /// Where the kernel shuts down; of a microcontroller, which the vendor allows at most.
    #[serde(rename = "critical_millidegrees")]
    pub critical: Sourced<Temperature>,
}

/// Something that can be measured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sensor {
    pub capability: Capability,
    pub find: SensorLocation,
}

/// What a sensor tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    Temperature,
    /// Voltage and current of the [rails](BoardProfile::rails).
    Power,
    /// Counts of over-current throttling.
    OverCurrentEvents,
    GpuFrequency,
    /// Whether the kernel cuts clocks at this moment.
    Throttling,
}

/// Where a sensor is: in sysfs, or in the chip.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SensorLocation {
    /// A thermal zone whose `type`, up to the first `-`, is this in any case.
    ThermalZone(Name),
    /// A hwmon device with this `name`.
    Hwmon(Name),
    /// A devfreq device whose `device/of_node/name` is this.
    Devfreq(Name),
    /// A cooling device whose `type` ends in this.
    CoolingDevice(Name),
    /// A sensor that the firmware of a microcontroller reads itself, by the name it has in the reference manual.
    OnChip(Name),
}

/// A power rail.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rail {
    /// As the sensor labels it.
    pub label: Name,
    /// What it feeds, for people.
    pub feeds: Line,
    /// Whether the total power of the board is the sum of this and other such
    /// rails. Never guessed from labels: both adding all rails and picking one
    /// by its name have given wrong totals.
    pub in_total: bool,
}

/// What the sum of the rails [in the total](Rail::in_total) is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TotalPower {
    /// All of it: the one such rail is the input of the module.
    Input,
    /// Less than a meter at the plug reads: some consumers have no rail.
    LowerBound,
}
