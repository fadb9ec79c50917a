//! Headroom sources: what Linux tells about heat, power, clocks and batteries.
//!
//! [`Sensors::discover`] looks through `/sys` (and `/var`, `/etc` for power
//! modes) for everything that is known to this module, by what the kernel calls
//! it: hwmon devices by `name`, thermal zones by the stem of `type`, devfreq
//! devices by the name of their device-tree node. Indices and versions of
//! system software mean nothing, since they differ between releases of the same
//! board. [`Sensors::read`] then makes a [`SensorReading`] of it, about once a
//! second. Files stay open and are read again in place; such a pass allocates
//! nothing.
//!
//! A file that cannot be read is normal: engines that are switched off answer
//! EAGAIN, drivers come late and go. A value is projected from its last
//! measurement for [`PROJECTION_LIMIT`], then missing with the kernel's reason.
//! Once in [`REDISCOVERY_PERIOD`] a pass looks again for one kind of source, in
//! turn; such a pass does allocate.
//!
//! | Kind | Where | File |
//! |---|---|---|
//! | thermal zones and trips | `/sys/class/thermal/thermal_zone*` | `thermal_zone` |
//! | cooling devices | `/sys/class/thermal/cooling_device*` | `cooling` |
//! | temperatures of chips | hwmon `temp*_input` | `chip_temperature` |
//! | power rails | hwmon `ina3221`, `power*_input`; iio `ina3221x` | `rail` |
//! | energy counters (RAPL) | `/sys/class/powercap/intel-rapl:*` | `energy_counter` |
//! | over-current counters | hwmon `soctherm_oc` | `over_current` |
//! | batteries and chargers | `/sys/class/power_supply/*` | `power_supply` |
//! | GPU clock and load | `/sys/class/devfreq/*` | `gpu` |
//! | CPU clocks | `/sys/devices/system/cpu/cpufreq/policy*` | `cpu` |
//! | power mode | `/var/lib/nvpmodel/status`, `/etc/nvpmodel.conf` | `power_mode` |

mod attribute;
mod chip_temperature;
mod cooling;
mod cpu;
mod energy_counter;
mod expectation;
mod gauge;
mod gpu;
mod limits;
mod over_current;
mod power_mode;
mod power_supply;
mod rail;
mod thermal_zone;
mod total;
mod tree;

use std::path::{Path, PathBuf};

use headroom_shared::{BoardProfile, TimeSpan};

pub use chip_temperature::ChipTemperature;
pub use cooling::CoolingDevice;
pub use cpu::CpuClock;
pub use energy_counter::EnergyCounter;
pub use expectation::Unmet;
pub use gauge::PROJECTION_LIMIT;
pub use gpu::Gpu;
pub use over_current::{OverCurrentCounter, OverCurrentKind};
pub use power_mode::PowerMode;
pub use power_supply::{PowerSupply, SupplyKind};
pub use rail::Rail;
pub use thermal_zone::{Trip, TripEffect, TripKind, Zone};
pub use total::TotalRule;

use crate::reading::{Measurement, Missing, SensorReading};
use attribute::Buffer;
use tree::Tree;

/// One kind of source is looked for again after so much time.
pub const REDISCOVERY_PERIOD: TimeSpan = TimeSpan::from_nanoseconds(1_000_000_000);

/// The most devices of one kind that are kept, those that have vanished included.
const MAX_DEVICES: usize = 128;

/// A kind of source.
trait Source {
    /// Looks at the tree: takes in what is there, and notices what has gone.
    fn discover(&mut self, tree: &Tree<'_>);

    /// Reads what was found.
    fn read(&mut self, pass: &mut Pass<'_>);
}

/// One pass over the sensors.
struct Pass<'a> {
    now: TimeSpan,
    /// Or else only what a [`SensorReading`] is made of: on a Jetson every file
    /// costs a message over I2C or to the power processor.
    everything: bool,
    buffer: &'a mut Buffer,
}

/// A device of some kind, which may go and come back.
trait Device: Sized {
    /// All that are there.
    fn find(tree: &Tree<'_>) -> Vec<Self>;

    /// What the device is, wherever it is found.
    fn identity(&self) -> &str;

    /// Whether a [`SensorReading`] is made of it.
    fn is_needed(&self) -> bool;

    fn read(&mut self, pass: &mut Pass<'_>);

    /// Goes on from what the same device told before.
    fn inherit(&mut self, earlier: &Self);

    /// The device is gone.
    fn close(&mut self);
}

/// All devices of one kind, those that have gone included.
#[derive(Debug)]
struct Devices<T> {
    found: Vec<T>,
}

impl<T> Default for Devices<T> {
    fn default() -> Self {
        Self { found: Vec::new() }
    }
}

impl<T: Device> Source for Devices<T> {
    fn discover(&mut self, tree: &Tree<'_>) {
        let mut earlier = core::mem::take(&mut self.found);
        for mut device in T::find(tree).into_iter().take(MAX_DEVICES) {
            // Devices of the same identity keep their order.
            if let Some(index) = earlier.iter().position(|earlier| earlier.identity() == device.identity()) {
                device.inherit(&earlier.remove(index));
            }
            self.found.push(device);
        }
        for mut gone in earlier {
            gone.close();
            if self.found.len() < MAX_DEVICES {
                self.found.push(gone);
            }
        }
    }

    fn read(&mut self, pass: &mut Pass<'_>) {
        let everything = pass.everything;
        for device in self.found.iter_mut().filter(|device| everything || device.is_needed()) {
            device.read(pass);
        }
    }
}

/// Everything that can be measured on this machine.
#[derive(Debug)]
pub struct Sensors {
    root: PathBuf,
    profile: Option<Box<BoardProfile>>,
    zones: Devices<Zone>,
    cooling: Devices<CoolingDevice>,
    chips: Devices<ChipTemperature>,
    rails: Devices<Rail>,
    energy_counters: Devices<EnergyCounter>,
    over_current: Devices<OverCurrentCounter>,
    power_supplies: Devices<PowerSupply>,
    gpus: Devices<Gpu>,
    cpus: Devices<CpuClock>,
    power_mode: PowerMode,
    /// When, and which, to look for again.
    next_look: Option<(TimeSpan, usize)>,
}

impl Sensors {
    /// Looks for sensors under `root`, the parent of `sys`, `var` and `etc`:
    /// `/`, or a copy of a board's files. Never fails: what is not there, or
    /// must not be read, is missing from the readings with the reason.
    ///
    /// The profile says which zones and rails count; without one, zones that
    /// cut clocks or shut down do, and the total power is that of RAPL or of a
    /// battery.
    #[must_use]
    pub fn discover(root: &Path, profile: Option<&BoardProfile>) -> Self {
        let mut sensors = Self {
            root: root.to_path_buf(),
            profile: profile.cloned().map(Box::new),
            zones: Default::default(),
            cooling: Default::default(),
            chips: Default::default(),
            rails: Default::default(),
            energy_counters: Default::default(),
            over_current: Default::default(),
            power_supplies: Default::default(),
            gpus: Default::default(),
            cpus: Default::default(),
            power_mode: Default::default(),
            next_look: None,
        };
        sensors.rediscover();
        sensors
    }

    /// Looks for everything again, at once.
    pub fn rediscover(&mut self) {
        for kind in 0..self.sources().2.len() {
            self.look_for(kind);
        }
    }

    /// Reads what the governor is told. `now` is the time since any fixed
    /// moment on a monotonic clock.
    pub fn read(&mut self, now: TimeSpan) -> SensorReading {
        self.pass(now, false)
    }

    /// Like [`Self::read`], and also clocks, loads, the power mode and the
    /// zones and rails that no reading is made of.
    pub fn read_everything(&mut self, now: TimeSpan) -> SensorReading {
        self.pass(now, true)
    }

    fn pass(&mut self, now: TimeSpan, everything: bool) -> SensorReading {
        self.look_again(now);
        let mut buffer: Buffer = [0; _];
        let mut pass = Pass { now, everything, buffer: &mut buffer };
        for source in self.sources().2 {
            source.read(&mut pass);
        }
        SensorReading {
            temperature: self.temperature(),
            power: self.total_power(),
            throttled: cooling::throttled(&self.cooling.found),
            over_current: over_current::rates(&self.over_current.found),
            charge: power_supply::charge(&self.power_supplies.found),
        }
    }

    fn sources(&mut self) -> (&Path, Option<&BoardProfile>, [&mut dyn Source; 10]) {
        let sources: [&mut dyn Source; 10] = [
            &mut self.zones,
            &mut self.cooling,
            &mut self.chips,
            &mut self.rails,
            &mut self.energy_counters,
            &mut self.over_current,
            &mut self.power_supplies,
            &mut self.gpus,
            &mut self.cpus,
            &mut self.power_mode,
        ];
        (&self.root, self.profile.as_deref(), sources)
    }

    fn look_for(&mut self, kind: usize) {
        let (root, profile, sources) = self.sources();
        if let Some(source) = sources.into_iter().nth(kind) {
            source.discover(&Tree { root, profile });
        }
    }

    /// Looks for one kind of source where it is time to.
    fn look_again(&mut self, now: TimeSpan) {
        let kind = match self.next_look {
            Some((due, _)) if now < due => return,
            Some((_, kind)) => {
                self.look_for(kind);
                kind + 1
            }
            // The first pass follows a look at everything.
            None => 0,
        };
        let due = now.checked_add(REDISCOVERY_PERIOD).unwrap_or(now);
        self.next_look = Some((due, kind % self.sources().2.len()));
    }

    /// The profile that the sensors were looked for with.
    #[must_use]
    pub fn profile(&self) -> Option<&BoardProfile> {
        self.profile.as_deref()
    }

    /// Thermal zones.
    #[must_use]
    pub fn zones(&self) -> &[Zone] {
        &self.zones.found
    }

    /// Cooling devices, also those that cut no clocks.
    #[must_use]
    pub fn cooling_devices(&self) -> &[CoolingDevice] {
        &self.cooling.found
    }

    /// Temperatures that chips tell beside the thermal zones.
    #[must_use]
    pub fn chip_temperatures(&self) -> &[ChipTemperature] {
        &self.chips.found
    }

    /// Power rails.
    #[must_use]
    pub fn rails(&self) -> &[Rail] {
        &self.rails.found
    }

    /// Energy counters of processors.
    #[must_use]
    pub fn energy_counters(&self) -> &[EnergyCounter] {
        &self.energy_counters.found
    }

    /// Counters of over-current throttling.
    #[must_use]
    pub fn over_current_counters(&self) -> &[OverCurrentCounter] {
        &self.over_current.found
    }

    /// Batteries and chargers.
    #[must_use]
    pub fn power_supplies(&self) -> &[PowerSupply] {
        &self.power_supplies.found
    }

    /// Clocks of the GPU and its load.
    #[must_use]
    pub fn gpus(&self) -> &[Gpu] {
        &self.gpus.found
    }

    /// Clocks of the processor cores.
    #[must_use]
    pub fn cpu_clocks(&self) -> &[CpuClock] {
        &self.cpus.found
    }

    /// The power mode of the board.
    #[must_use]
    pub fn power_mode(&self) -> &PowerMode {
        &self.power_mode
    }
}

/// The largest of several values. Where none is known, the first reason that says more than "absent".
fn largest<T: Copy + PartialOrd>(values: impl Iterator<Item = Measurement<T>>) -> Measurement<T> {
    values.fold(Measurement::Missing(Missing::Absent), |largest, next| match (largest, next) {
        (Measurement::Missing(Missing::Absent), _) => next,
        (_, Measurement::Missing(_)) => largest,
        (Measurement::Missing(_), _) => next,
        _ if next.value() > largest.value() => next,
        _ => largest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_value_counts_however_it_is_known() {
        let age = TimeSpan::from_nanoseconds(5);
        let old = Measurement::Projected { value: 3, age };
        let (low, high) = (Measurement::Measured(2), Measurement::Measured(4));
        let (absent, denied) = (Measurement::Missing(Missing::Absent), Measurement::Missing(Missing::Denied));
        for (values, expected) in [
            (vec![], absent),
            (vec![absent, denied, absent], denied),
            (vec![denied, low], low),
            (vec![low, denied, old], old),
            (vec![high, old], high),
        ] {
            assert_eq!(largest(values.into_iter()), expected);
        }
    }
}
