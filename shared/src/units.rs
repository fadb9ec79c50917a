//! Physical quantities as integers: temperature, power, energy, time and frequency.
//!
//! The integer is private and its unit is in the name of every constructor and
//! accessor, so that milliwatts are never added to microjoules. Arithmetic is
//! checked: `None` is an overflow. Serde sees the bare integer.
//!
//! `Display` prints the everyday unit with three decimals, rounded to nearest;
//! a format precision (`{:.1}`) overrides the three. Reading the integer back
//! is exact.

use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

macro_rules! quantity {
    (
        $(#[$doc:meta])* $name:ident($integer:ty), $from:ident, $as:ident,
        shown as $symbol:literal of $scale:literal
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($integer);

        impl $name {
            /// The quantity of so many of the unit in the name.
            #[must_use]
            pub const fn $from(value: $integer) -> Self {
                Self(value)
            }

            /// The exact integer, in the unit in the name.
            #[must_use]
            pub const fn $as(self) -> $integer {
                self.0
            }

            /// The sum, or `None` on overflow.
            #[must_use]
            pub const fn checked_add(self, other: Self) -> Option<Self> {
                match self.0.checked_add(other.0) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The difference, or `None` on overflow (below zero, where the integer is unsigned).
            #[must_use]
            pub const fn checked_sub(self, other: Self) -> Option<Self> {
                match self.0.checked_sub(other.0) {
                    Some(difference) => Some(Self(difference)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                let precision = formatter.precision().unwrap_or(3);
                write!(formatter, concat!("{:.*} ", $symbol), precision, self.0 as f64 / $scale)
            }
        }
    };
}

quantity! {
    /// A temperature in milli-degrees Celsius, the unit of Linux thermal zones.
    Temperature(i32), from_millidegrees, as_millidegrees, shown as "°C" of 1e3
}
quantity! {
    /// Electrical power in milliwatts; up to 4.29 MW.
    Power(u32), from_milliwatts, as_milliwatts, shown as "W" of 1e3
}
quantity! {
    /// Energy in microjoules.
    Energy(u64), from_microjoules, as_microjoules, shown as "mJ" of 1e3
}
quantity! {
    /// A span of time in nanoseconds; up to 584 years.
    TimeSpan(u64), from_nanoseconds, as_nanoseconds, shown as "ms" of 1e6
}
quantity! {
    /// A frequency in hertz.
    Frequency(u64), from_hertz, as_hertz, shown as "MHz" of 1e6
}

impl TimeSpan {
    /// So many microseconds, or `None` on overflow.
    #[must_use]
    pub const fn from_microseconds(microseconds: u64) -> Option<Self> {
        match microseconds.checked_mul(1_000) {
            Some(nanoseconds) => Some(Self(nanoseconds)),
            None => None,
        }
    }

    /// The span of `seconds`, rounded up to a whole nanosecond: a cost is never
    /// understated. `None` for a negative, infinite or too large number and NaN.
    #[must_use]
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        rounded_up(seconds * 1e9).map(Self)
    }

    /// The span in seconds.
    #[must_use]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

/// Saturates after 584 years.
impl From<Duration> for TimeSpan {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<TimeSpan> for Duration {
    fn from(span: TimeSpan) -> Self {
        Self::from_nanos(span.0)
    }
}

impl Energy {
    /// The energy of `joules`, rounded up to a whole microjoule. `None` for a
    /// negative, infinite or too large number and NaN.
    #[must_use]
    pub fn from_joules(joules: f64) -> Option<Self> {
        rounded_up(joules * 1e6).map(Self)
    }

    /// The energy in joules.
    #[must_use]
    pub fn as_joules(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The mean power of spending this energy over `time`, rounded up to a
    /// whole milliwatt. `None` where `time` is zero or the power does not fit.
    #[must_use]
    pub fn over(self, time: TimeSpan) -> Option<Power> {
        // µJ / ns = kW = 1e6 mW.
        let milliwatts = (u128::from(self.0) * 1_000_000).checked_div(u128::from(time.0))?;
        let exact = milliwatts * u128::from(time.0) == u128::from(self.0) * 1_000_000;
        u32::try_from(milliwatts + u128::from(!exact)).ok().map(Power)
    }
}

impl Power {
    /// The power in watts.
    #[must_use]
    pub fn as_watts(self) -> f64 {
        f64::from(self.0) / 1e3
    }

    /// The energy of drawing this power for `time`, rounded up to a whole
    /// microjoule.
    #[must_use]
    pub fn during(self, time: TimeSpan) -> Energy {
        // mW * ns = 1e-12 J = 1e-6 µJ.
        let picojoules = u128::from(self.0) * u128::from(time.0);
        // At most 2^32 * 2^64 / 10^6 < 2^77, so only absurd spans saturate.
        Energy(u64::try_from(picojoules.div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }
}

impl Frequency {
    /// So many megahertz, or `None` on overflow.
    #[must_use]
    pub const fn from_megahertz(megahertz: u64) -> Option<Self> {
        match megahertz.checked_mul(1_000_000) {
            Some(hertz) => Some(Self(hertz)),
            None => None,
        }
    }
}

/// The least integer that is not below `value`, if it is one of `u64`.
fn rounded_up(value: f64) -> Option<u64> {
    // 2^64: the first f64 that u64 cannot hold. The comparison is false for NaN.
    if !(0.0..18_446_744_073_709_551_616.0).contains(&value) {
        return None;
    }
    let floor = value as u64;
    // `f64::ceil` needs std.
    if (floor as f64) < value { floor.checked_add(1) } else { Some(floor) }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;

    use super::*;

    #[test]
    fn show_the_everyday_unit() {
        assert_eq!(format!("{}", Temperature::from_millidegrees(-1_250)), "-1.250 °C");
        assert_eq!(format!("{}", Power::from_milliwatts(15_000)), "15.000 W");
        assert_eq!(format!("{:.1}", Energy::from_microjoules(8_160)), "8.2 mJ");
        assert_eq!(format!("{}", TimeSpan::from_nanoseconds(6_329_114)), "6.329 ms");
        assert_eq!(format!("{:.0}", Frequency::from_hertz(1_020_000_000)), "1020 MHz");
    }

    #[test]
    fn round_costs_up_and_refuse_what_is_no_number() {
        assert_eq!(TimeSpan::from_seconds(1.5e-9), Some(TimeSpan::from_nanoseconds(2)));
        assert_eq!(TimeSpan::from_seconds(2e-9), Some(TimeSpan::from_nanoseconds(2)));
        assert_eq!(TimeSpan::from_seconds(0.0), Some(TimeSpan::from_nanoseconds(0)));
        for bad in [f64::NAN, f64::INFINITY, -1e-9, 1e30] {
            assert_eq!(TimeSpan::from_seconds(bad), None, "{bad}");
            assert_eq!(Energy::from_joules(bad), None, "{bad}");
        }
        assert_eq!(Energy::from_joules(0.000_000_1), Some(Energy::from_microjoules(1)));
    }

    #[test]
    fn overflow_is_none() {
        assert_eq!(Power::from_milliwatts(1).checked_sub(Power::from_milliwatts(2)), None);
        assert_eq!(Temperature::from_millidegrees(i32::MAX).checked_add(Temperature::from_millidegrees(1)), None);
        assert_eq!(TimeSpan::from_microseconds(u64::MAX), None);
        assert_eq!(Frequency::from_megahertz(u64::MAX), None);
        assert_eq!(
            Energy::from_microjoules(2).checked_add(Energy::from_microjoules(3)),
            Some(Energy::from_microjoules(5))
        );
    }

    #[test]
    fn power_times_time_is_energy_and_back() {
        let power = Power::from_milliwatts(25_000);
        let time = TimeSpan::from_nanoseconds(6_000_000);
        let energy = power.during(time);
        assert_eq!(energy, Energy::from_microjoules(150_000));
        assert_eq!(energy.over(time), Some(power));
        assert_eq!(energy.over(TimeSpan::from_nanoseconds(0)), None);
        assert_eq!(
            Energy::from_microjoules(1).over(TimeSpan::from_nanoseconds(3)),
            Some(Power::from_milliwatts(333_334))
        );
        assert_eq!(Energy::from_microjoules(u64::MAX).over(TimeSpan::from_nanoseconds(1)), None);
        assert_eq!(Power::from_milliwatts(1).during(TimeSpan::from_nanoseconds(1)), Energy::from_microjoules(1));
    }
}
