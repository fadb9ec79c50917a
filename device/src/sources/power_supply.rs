//! Batteries and chargers.

use std::path::PathBuf;

use headroom_shared::Power;

use super::attribute::Attribute;
use super::gauge::{self, Gauge, Tracked};
use super::tree::{self, Tree, file_name};
use super::{Device, Pass};
use crate::reading::{Charge, Measurement, Missing};

/// A battery or a charger.
#[derive(Debug)]
pub struct PowerSupply {
    /// The kernel's name, such as `BAT0`.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    pub kind: SupplyKind,
    /// Whether it powers the board, and not a mouse.
    pub powers_board: bool,
    charge: Gauge<Charge>,
    status: Attribute,
    discharging: Tracked<bool>,
    power: Meter,
}

/// What a power supply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SupplyKind {
    Battery,
    /// USB, with or without power delivery.
    Usb,
    /// Any other charger.
    Mains,
}

/// Power, or else voltage and current in microvolts and microamperes.
#[derive(Debug)]
struct Meter {
    power: Attribute,
    voltage: Attribute,
    current: Attribute,
    tracked: Tracked<Power>,
}

impl PowerSupply {
    /// What is left in a battery.
    #[must_use]
    pub fn charge(&self) -> Measurement<Charge> {
        self.charge.value()
    }

    /// Whether a battery powers the board at this moment.
    #[must_use]
    pub fn discharging(&self) -> Measurement<bool> {
        self.discharging.value()
    }

    /// What flows, in either direction.
    #[must_use]
    pub fn power(&self) -> Measurement<Power> {
        self.power.tracked.value()
    }

    /// Whether it is a battery of the board, and not of a mouse.
    #[must_use]
    pub fn is_battery(&self) -> bool {
        self.kind == SupplyKind::Battery && self.powers_board
    }

    fn open(folder: PathBuf) -> Option<Self> {
        let name = file_name(&folder);
        let kind = match tree::text(&folder.join("type"))?.as_str() {
            "Battery" => SupplyKind::Battery,
            "USB" => SupplyKind::Usb,
            "Mains" | "Wireless" => SupplyKind::Mains,
            _ => return None,
        };
        let powers_board = tree::text(&folder.join("scope")).as_deref() != Some("Device");
        let attribute = |name: &str| Attribute::open(folder.join(name));
        let power = Meter {
            power: attribute("power_now"),
            voltage: attribute("voltage_now"),
            current: attribute("current_now"),
            tracked: Tracked::new(),
        };
        let charge = Gauge::open(folder.join("capacity"), |percent| Charge::from_percent(u8::try_from(percent).ok()?));
        let status = attribute("status");
        Some(Self { name, folder, kind, powers_board, charge, status, discharging: Tracked::new(), power })
    }
}

impl Meter {
    fn read(&mut self, pass: &mut Pass<'_>) {
        // Some drivers count what leaves a battery as negative.
        let microwatts = if self.power.is_there() {
            self.power.number(pass.buffer).map(i64::saturating_abs)
        } else {
            self.voltage.number(pass.buffer).and_then(|microvolts| {
                let microamperes = self.current.number(pass.buffer)?;
                let product = i128::from(microvolts) * i128::from(microamperes).abs() / 1_000_000;
                i64::try_from(product).map_err(|_| Missing::Malformed)
            })
        };
        let power = microwatts.and_then(|microwatts| gauge::power(microwatts).ok_or(Missing::Malformed));
        self.tracked.update(power, pass.now);
    }
}

impl Device for PowerSupply {
    fn find(tree: &Tree<'_>) -> Vec<Self> {
        // What a USB-C port has negotiated is not what flows.
        let folders = tree.entries("sys/class/power_supply").into_iter();
        let measured = folders.filter(|folder| !file_name(folder).starts_with("ucsi-source-psy-"));
        measured.filter_map(Self::open).collect()
    }

    fn identity(&self) -> &str {
        &self.name
    }

    fn is_needed(&self) -> bool {
        self.is_battery()
    }

    fn read(&mut self, pass: &mut Pass<'_>) {
        self.charge.read(pass);
        let discharging = self.status.text(pass.buffer).map(|status| status == "Discharging");
        self.discharging.update(discharging, pass.now);
        self.power.read(pass);
    }

    fn inherit(&mut self, earlier: &Self) {
        self.charge.inherit(&earlier.charge);
        self.discharging = earlier.discharging;
        self.power.tracked = earlier.power.tracked;
    }

    fn close(&mut self) {
        self.charge.close();
        self.status.close();
        for attribute in [&mut self.power.power, &mut self.power.voltage, &mut self.power.current] {
            attribute.close();
        }
    }
}

/// Of the battery that has the least, since it ends first.
pub(super) fn charge(supplies: &[PowerSupply]) -> Measurement<Charge> {
    let charges = supplies.iter().filter(|supply| supply.is_battery()).map(PowerSupply::charge);
    charges.fold(Measurement::Missing(Missing::Absent), |least, next| match (least.value(), next.value()) {
        (Some(least_value), Some(value)) if value < least_value => next,
        (None, Some(_)) => next,
        (None, None) if least == Measurement::Missing(Missing::Absent) => next,
        _ => least,
    })
}
