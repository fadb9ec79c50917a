//! What the governor is told of everything that was read: one temperature, one power.

use headroom_shared::{Power, Temperature, TimeSpan};

use super::{Sensors, largest};
use crate::reading::{Measurement, Missing};

/// What the total power is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TotalRule {
    /// The rails that the profile names.
    ProfileRails,
    /// The platform counter of RAPL.
    Platform,
    /// The batteries, while nothing charges them.
    Batteries,
    /// The processor packages and memory of RAPL; less than the whole machine takes.
    Packages,
    /// Nothing that stands for the whole board.
    None,
}

impl Sensors {
    /// Of the hottest zone or chip that counts.
    pub(super) fn temperature(&self) -> Measurement<Temperature> {
        let zones = self.zones().iter().filter(|zone| zone.counts).map(|zone| zone.temperature());
        let chips = self.chip_temperatures().iter().filter(|chip| chip.counts).map(|chip| chip.temperature());
        largest(zones.chain(chips))
    }

    /// Of the whole board.
    pub(super) fn total_power(&self) -> Measurement<Power> {
        self.power_by(self.total_rule())
    }

    /// What the total power is made of at this moment: of what the board has,
    /// the first in the order of [`TotalRule`] that has a value.
    #[must_use]
    pub fn total_rule(&self) -> TotalRule {
        if self.profile().is_some() {
            return TotalRule::ProfileRails;
        }
        let rules = [TotalRule::Platform, TotalRule::Batteries, TotalRule::Packages];
        let has = |wanted: fn(Measurement<Power>) -> bool| rules.into_iter().find(|rule| wanted(self.power_by(*rule)));
        has(|power| power.value().is_some())
            .or_else(|| has(|power| power != Measurement::Missing(Missing::Absent)))
            .unwrap_or(TotalRule::None)
    }

    fn power_by(&self, rule: TotalRule) -> Measurement<Power> {
        let counters = self.energy_counters().iter();
        match rule {
            TotalRule::ProfileRails => {
                let rails =
                    self.profile().map_or(&[][..], |profile| &profile.rails).iter().filter(|rail| rail.in_total);
                sum(rails.map(|wanted| {
                    let found = self.rails().iter().find(|rail| rail.label == wanted.label.as_str());
                    found.map_or(Measurement::Missing(Missing::Absent), |rail| rail.power())
                }))
            }
            TotalRule::Platform => sum(counters.filter(|counter| counter.is_platform()).map(|counter| counter.power())),
            TotalRule::Packages => {
                let parts = counters.filter(|counter| counter.is_in_total() && !counter.is_platform());
                sum(parts.map(|counter| counter.power()))
            }
            TotalRule::Batteries => {
                let batteries = self.power_supplies().iter().filter(|supply| supply.is_battery());
                sum(batteries
                    .filter(|battery| battery.discharging().value() == Some(true))
                    .map(|battery| battery.power()))
            }
            TotalRule::None => Measurement::Missing(Missing::Absent),
        }
    }
}

/// The sum, as old as its oldest part. A part that is missing leaves no sum.
fn sum(parts: impl Iterator<Item = Measurement<Power>>) -> Measurement<Power> {
    let mut total: Option<Power> = None;
    let mut oldest: Option<TimeSpan> = None;
    for part in parts {
        let value = match part {
            Measurement::Measured(value) => value,
            Measurement::Projected { value, age } => {
                oldest = oldest.max(Some(age));
                value
            }
            Measurement::Missing(reason) => return Measurement::Missing(reason),
        };
        match total.unwrap_or_default().checked_add(value) {
            Some(sum) => total = Some(sum),
            None => return Measurement::Missing(Missing::Malformed),
        }
    }
    match (total, oldest) {
        (None, _) => Measurement::Missing(Missing::Absent),
        (Some(value), None) => Measurement::Measured(value),
        (Some(value), Some(age)) => Measurement::Projected { value, age },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_needs_all_its_parts() {
        let measured = |milliwatts| Measurement::Measured(Power::from_milliwatts(milliwatts));
        let age = TimeSpan::from_nanoseconds(3);
        let projected = Measurement::Projected { value: Power::from_milliwatts(5), age };
        let denied = Measurement::Missing(Missing::Denied);
        assert_eq!(sum([measured(1), measured(2)].into_iter()), measured(3));
        let old = Measurement::Projected { value: Power::from_milliwatts(6), age };
        assert_eq!(sum([measured(1), projected].into_iter()), old);
        assert_eq!(sum([measured(1), denied, projected].into_iter()), denied);
        assert_eq!(sum([].into_iter()), Measurement::Missing(Missing::Absent));
        assert_eq!(sum([measured(u32::MAX), measured(1)].into_iter()), Measurement::Missing(Missing::Malformed));
    }
}
