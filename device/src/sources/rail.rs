//! Power rails, in the three ways that Linux tells them: voltage and current of
//! an INA3221, power of other hwmon chips (such as the INA238 at the input of a
//! Jetson Thor), and the iio layout of the INA3221 on old Jetsons.

use std::path::{Path, PathBuf};

use headroom_shared::Power;

use super::attribute::Attribute;
use super::gauge::{self, Gauge, Tracked};
use super::tree::{self, Hwmon, Tree, file_name};
use super::{Device, Pass};
use crate::reading::{Measurement, Missing};

/// The channels of an INA3221. `in4` and above are shunt voltages and their sum, no rails.
const INA3221_CHANNELS: [u32; 3] = [1, 2, 3];

/// So many milliamperes below zero are offset, hence no current: the INA3221 is
/// off by up to 80 µV (Texas Instruments, data sheet SBOS576), which is 40 mA
/// over the smallest shunt that Jetsons have, 2 milliohms.
const OFFSET_MILLIAMPERES: i64 = 40;

/// A supply whose power is measured.
#[derive(Debug)]
pub struct Rail {
    /// As the sensor labels it.
    pub label: String,
    /// The folder of the chip.
    pub folder: PathBuf,
    /// Whether the profile adds it to the total power of the board.
    pub in_total: bool,
    /// Average current above which the chip warns.
    pub warning_milliamperes: Option<u32>,
    /// Current above which the chip says at once that it is too much.
    pub critical_milliamperes: Option<u32>,
    meter: Meter,
}

/// How a rail is measured.
#[derive(Debug)]
enum Meter {
    VoltageAndCurrent { voltage: Attribute, current: Attribute, power: Tracked<Power> },
    Power(Gauge<Power>),
}

impl Rail {
    /// The last reading; averages of some tenths of a second.
    #[must_use]
    pub fn power(&self) -> Measurement<Power> {
        match &self.meter {
            Meter::VoltageAndCurrent { power, .. } => power.value(),
            Meter::Power(gauge) => gauge.value(),
        }
    }

    fn new(label: String, folder: &Path, tree: &Tree<'_>, meter: Meter) -> Self {
        let in_total = tree
            .profile
            .is_some_and(|profile| profile.rails.iter().any(|rail| rail.in_total && rail.label.as_str() == label));
        Self {
            label,
            folder: folder.to_path_buf(),
            in_total,
            warning_milliamperes: None,
            critical_milliamperes: None,
            meter,
        }
    }

    fn of_ina3221(chip: &Hwmon, channel: u32, tree: &Tree<'_>) -> Option<Self> {
        let of = |what: &str| chip.folder.join(what.replace('#', &channel.to_string()));
        let label = tree::text(&of("in#_label")).filter(|label| is_rail(label))?;
        let enabled = tree::number(&of("in#_enable")) != Some(0);
        let voltage = Attribute::open(of("in#_input"));
        let current = Attribute::open(of("curr#_input"));
        if !(enabled && voltage.is_there() && current.is_there()) {
            return None;
        }
        let meter = Meter::VoltageAndCurrent { voltage, current, power: Tracked::new() };
        Some(Self {
            warning_milliamperes: limit(&of("curr#_max")),
            critical_milliamperes: limit(&of("curr#_crit")),
            ..Self::new(label, &chip.folder, tree, meter)
        })
    }

    /// `file` is `powerN_input` or `powerN_average`, in microwatts.
    fn of_power(chip: &Hwmon, file: &Path, tree: &Tree<'_>) -> Option<Self> {
        let name = file_name(file);
        let number = name
            .strip_prefix("power")?
            .strip_suffix("_input")
            .or(name.strip_prefix("power")?.strip_suffix("_average"))?;
        let labels = [format!("power{number}_label"), "label".to_owned(), format!("in{number}_label")];
        let label = labels.iter().find_map(|label| tree::text(&chip.folder.join(label)));
        let meter = Meter::Power(Gauge::open(file.to_path_buf(), gauge::power));
        Some(Self::new(label.unwrap_or_else(|| chip.name.clone()), &chip.folder, tree, meter))
    }

    /// `file` is `rail_name_N`; power is in milliwatts.
    fn of_iio(folder: &Path, file: &Path, tree: &Tree<'_>) -> Option<Self> {
        let name = file_name(file);
        let number = name.strip_prefix("rail_name_")?;
        let label = tree::text(file).filter(|label| is_rail(label))?;
        let milliwatts = |number| u32::try_from(number).ok().map(Power::from_milliwatts);
        let meter = Meter::Power(Gauge::open(folder.join(format!("in_power{number}_input")), milliwatts));
        Some(Self {
            warning_milliamperes: limit(&folder.join(format!("warn_current_limit_{number}"))),
            critical_milliamperes: limit(&folder.join(format!("crit_current_limit_{number}"))),
            ..Self::new(label, folder, tree, meter)
        })
    }
}

/// Unused channels are labelled `NC`.
fn is_rail(label: &str) -> bool {
    label != "NC" && label != "sum of shunt voltages"
}

fn limit(path: &Path) -> Option<u32> {
    tree::number(path).and_then(|milliamperes| u32::try_from(milliamperes).ok())
}

/// Millivolts times milliamperes, rounded to the nearest milliwatt.
fn product(millivolts: i64, milliamperes: i64) -> Option<Power> {
    let millivolts = u64::try_from(millivolts).ok()?;
    let offset = (-OFFSET_MILLIAMPERES..0).contains(&milliamperes);
    let milliamperes = if offset { 0 } else { u64::try_from(milliamperes).ok()? };
    let milliwatts = (millivolts.checked_mul(milliamperes)?).checked_add(500)? / 1000;
    u32::try_from(milliwatts).ok().map(Power::from_milliwatts)
}

impl Device for Rail {
    fn find(tree: &Tree<'_>) -> Vec<Self> {
        let mut found = Vec::new();
        for chip in tree.hwmon() {
            if chip.name == "ina3221" {
                found.extend(INA3221_CHANNELS.iter().filter_map(|channel| Self::of_ina3221(&chip, *channel, tree)));
            } else if !chip.name.starts_with("ucsi") {
                // What a USB-C source has negotiated is not what flows.
                let files = tree::entries(&chip.folder);
                found.extend(files.iter().filter_map(|file| Self::of_power(&chip, file, tree)));
            }
        }
        for chip in tree.entries("sys/bus/i2c/drivers/ina3221x") {
            for folder in tree::entries(&chip).iter().filter(|folder| file_name(folder).starts_with("iio:device")) {
                found.extend(tree::entries(folder).iter().filter_map(|file| Self::of_iio(folder, file, tree)));
            }
        }
        found
    }

    fn identity(&self) -> &str {
        &self.label
    }

    fn is_needed(&self) -> bool {
        self.in_total
    }

    fn read(&mut self, pass: &mut Pass<'_>) {
        match &mut self.meter {
            Meter::Power(gauge) => gauge.read(pass),
            Meter::VoltageAndCurrent { voltage, current, power } => {
                let found = voltage.number(pass.buffer).and_then(|millivolts| {
                    let milliamperes = current.number(pass.buffer)?;
                    product(millivolts, milliamperes).ok_or(Missing::Malformed)
                });
                power.update(found, pass.now);
            }
        }
    }

    fn inherit(&mut self, earlier: &Self) {
        match (&mut self.meter, &earlier.meter) {
            (Meter::Power(gauge), Meter::Power(earlier)) => gauge.inherit(earlier),
            (Meter::VoltageAndCurrent { power, .. }, Meter::VoltageAndCurrent { power: earlier, .. }) => {
                *power = *earlier;
            }
            // Another chip under the same label starts afresh.
            _ => {}
        }
    }

    fn close(&mut self) {
        match &mut self.meter {
            Meter::Power(gauge) => gauge.close(),
            Meter::VoltageAndCurrent { voltage, current, .. } => {
                voltage.close();
                current.close();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_voltage_times_current() {
        assert_eq!(product(5_000, 4_984), Some(Power::from_milliwatts(24_920)));
        assert_eq!(product(4_968, 1_088), Some(Power::from_milliwatts(5_405)));
        assert_eq!(product(5_000, -40), Some(Power::from_milliwatts(0)));
        for (millivolts, milliamperes) in [(5_000, -256), (-256, 100), (i64::MAX, i64::MAX), (i64::MAX, 1)] {
            assert_eq!(product(millivolts, milliamperes), None, "{millivolts} {milliamperes}");
        }
    }
}
