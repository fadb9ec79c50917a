//! A quantity over time, and the file that tells it.

use std::path::PathBuf;

use headroom_shared::{Frequency, Power, Temperature, TimeSpan};

use super::Pass;
use super::attribute::Attribute;
use crate::reading::{Measurement, Missing};

/// For so long a sensor that stops to answer is projected from its last
/// measurement. Long enough for what comes and goes under load, short beside
/// the minutes that a heatsink takes.
pub const PROJECTION_LIMIT: TimeSpan = TimeSpan::from_nanoseconds(10_000_000_000);

/// A quantity over time: the last measurement, and what the last pass made of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tracked<T> {
    last: Option<(T, TimeSpan)>,
    value: Measurement<T>,
}

impl<T: Copy> Tracked<T> {
    /// Never read.
    pub(super) fn new() -> Self {
        Self { last: None, value: Measurement::Missing(Missing::Absent) }
    }

    pub(super) fn value(&self) -> Measurement<T> {
        self.value
    }

    pub(super) fn update(&mut self, found: Result<T, Missing>, now: TimeSpan) {
        self.value = match (found, self.last) {
            (Ok(value), _) => {
                self.last = Some((value, now));
                Measurement::Measured(value)
            }
            (Err(reason), None) => Measurement::Missing(reason),
            (Err(reason), Some((value, at))) => {
                // A clock that runs backwards makes nothing older.
                let age = now.checked_sub(at).unwrap_or_default();
                let reason = if reason == Missing::Absent { Missing::Vanished } else { reason };
                if age <= PROJECTION_LIMIT {
                    Measurement::Projected { value, age }
                } else {
                    Measurement::Missing(reason)
                }
            }
        };
    }
}

/// A file and the quantity that it tells.
#[derive(Debug)]
pub(super) struct Gauge<T> {
    file: Attribute,
    convert: fn(i64) -> Option<T>,
    tracked: Tracked<T>,
}

impl<T: Copy> Gauge<T> {
    /// `convert` says `None` to what the quantity cannot be.
    pub(super) fn open(path: PathBuf, convert: fn(i64) -> Option<T>) -> Self {
        Self { file: Attribute::open(path), convert, tracked: Tracked::new() }
    }

    pub(super) fn is_there(&self) -> bool {
        self.file.is_there()
    }

    pub(super) fn value(&self) -> Measurement<T> {
        self.tracked.value()
    }

    pub(super) fn read(&mut self, pass: &mut Pass<'_>) {
        let number = self.file.number(pass.buffer);
        let found = number.and_then(|number| (self.convert)(number).ok_or(Missing::Malformed));
        self.tracked.update(found, pass.now);
    }

    /// Goes on from what an earlier look at the tree had read.
    pub(super) fn inherit(&mut self, earlier: &Self) {
        self.tracked = earlier.tracked;
    }

    pub(super) fn close(&mut self) {
        self.file.close();
    }
}

/// Of milli-degrees. Chips that control clocks work between -55 and 150 °C;
/// other numbers stand for "unknown", and so does -256 in either unit.
pub(super) fn temperature(millidegrees: i64) -> Option<Temperature> {
    let known = (-55_000..=150_000).contains(&millidegrees) && millidegrees != -256;
    known.then(|| i32::try_from(millidegrees).ok()).flatten().map(Temperature::from_millidegrees)
}

/// Of microwatts, the unit of hwmon and of power supplies; rounded to nearest.
pub(super) fn power(microwatts: i64) -> Option<Power> {
    let milliwatts = u64::try_from(microwatts).ok()?.saturating_add(500) / 1000;
    u32::try_from(milliwatts).ok().map(Power::from_milliwatts)
}

/// Of hertz, the unit of devfreq.
pub(super) fn hertz(hertz: i64) -> Option<Frequency> {
    u64::try_from(hertz).ok().map(Frequency::from_hertz)
}

/// Of kilohertz, the unit of cpufreq.
pub(super) fn kilohertz(kilohertz: i64) -> Option<Frequency> {
    u64::try_from(kilohertz).ok()?.checked_mul(1000).map(Frequency::from_hertz)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> TimeSpan {
        TimeSpan::from_nanoseconds(seconds * 1_000_000_000)
    }

    #[test]
    fn what_stops_to_answer_is_projected_and_then_missing() {
        let mut tracked = Tracked::new();
        assert_eq!(tracked.value(), Measurement::Missing(Missing::Absent));
        tracked.update(Err(Missing::Unavailable), seconds(1));
        assert_eq!(tracked.value(), Measurement::Missing(Missing::Unavailable));
        tracked.update(Ok(7), seconds(2));
        assert_eq!(tracked.value(), Measurement::Measured(7));
        tracked.update(Err(Missing::Malformed), seconds(5));
        assert_eq!(tracked.value(), Measurement::Projected { value: 7, age: seconds(3) });
        tracked.update(Err(Missing::Absent), seconds(13));
        assert_eq!(tracked.value(), Measurement::Missing(Missing::Vanished));
        tracked.update(Ok(8), seconds(14));
        tracked.update(Err(Missing::Unavailable), seconds(3));
        assert_eq!(tracked.value(), Measurement::Projected { value: 8, age: seconds(0) });
    }

    #[test]
    fn numbers_that_a_quantity_cannot_have_are_none() {
        assert_eq!(temperature(48_500), Some(Temperature::from_millidegrees(48_500)));
        assert_eq!(temperature(-20_000), Some(Temperature::from_millidegrees(-20_000)));
        for wrong in [-256, -256_000, -274_000, 150_001, i64::MAX, i64::MIN] {
            assert_eq!(temperature(wrong), None, "{wrong}");
        }
        assert_eq!(power(5_400_499), Some(Power::from_milliwatts(5_400)));
        for wrong in [-1, i64::MAX, i64::MIN] {
            assert_eq!(power(wrong), None, "{wrong}");
        }
        assert_eq!(kilohertz(1_344_000), Frequency::from_megahertz(1344));
        assert_eq!(kilohertz(i64::MAX), None);
        assert_eq!(hertz(-1), None);
    }
}
