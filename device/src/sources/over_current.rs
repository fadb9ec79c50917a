//! Over-current counters of Orin modules (hwmon `soctherm_oc`), as rates.
//!
//! The counters are cumulative and the power processor refreshes them in bursts
//! about every 2 s (Orin Nano throttling study), so a rate is taken over some
//! bursts. What counts is the rate: OC3 alone rises by up to 30 a second on
//! boards that are fine.

use std::path::PathBuf;

use headroom_shared::TimeSpan;
use headroom_shared::board::{Capability, SensorLocation};

use super::attribute::Attribute;
use super::gauge::Tracked;
use super::tree::{self, Tree};
use super::{Device, Pass};
use crate::reading::{Measurement, Missing, OverCurrentRates};

/// Rates are taken over two bursts.
const WINDOW: TimeSpan = TimeSpan::from_nanoseconds(4_000_000_000);

/// Samples that a window holds, and the least time between two.
const SAMPLES: usize = 9;
const SPACING: TimeSpan = TimeSpan::from_nanoseconds(WINDOW.as_nanoseconds() / (SAMPLES as u64 - 1));

/// A counter of throttling events.
#[derive(Debug)]
pub struct OverCurrentCounter {
    /// Its name: `oc1`, `oc2` or `oc3`.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    pub kind: OverCurrentKind,
    /// Whether an event cuts clocks.
    pub throttles: bool,
    file: Attribute,
    events: Tracked<u64>,
    window: Window,
    rate: Tracked<f32>,
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OverCurrentKind {
    /// OC1.
    UnderVoltage,
    /// OC2.
    AveragePower,
    /// OC3: about a millisecond at half clock.
    InstantaneousPower,
}

impl OverCurrentCounter {
    /// Events since the system started.
    #[must_use]
    pub fn events(&self) -> Measurement<u64> {
        self.events.value()
    }

    /// Events a second, over about 4 s.
    #[must_use]
    pub fn rate(&self) -> Measurement<f32> {
        self.rate.value()
    }
}

/// The counts of the last few seconds, oldest first.
#[derive(Clone, Debug, Default)]
struct Window {
    samples: [(TimeSpan, u64); SAMPLES],
    length: usize,
}

impl Window {
    /// Events a second since the oldest sample; `None` while there is no earlier one.
    fn rate(&mut self, events: u64, now: TimeSpan) -> Option<f32> {
        // A counter, or a clock, that went back is another one.
        if self.newest().is_some_and(|(at, before)| events < before || now < at) {
            self.length = 0;
        }
        while self.length > 1 && now.checked_sub(self.samples[1].0) >= Some(WINDOW) {
            self.drop_oldest();
        }
        let oldest = (self.length > 0).then(|| self.samples[0]);
        if self.newest().is_none_or(|(at, _)| now.checked_sub(at) >= Some(SPACING)) {
            if self.length == SAMPLES {
                self.drop_oldest();
            }
            self.samples[self.length] = (now, events);
            self.length += 1;
        }
        let (at, before) = oldest?;
        let span = now.checked_sub(at).filter(|span| span.as_nanoseconds() > 0)?;
        Some(((events - before) as f64 / span.as_seconds()) as f32)
    }

    fn newest(&self) -> Option<(TimeSpan, u64)> {
        self.length.checked_sub(1).map(|last| self.samples[last])
    }

    fn drop_oldest(&mut self) {
        self.samples.copy_within(1..self.length, 0);
        self.length -= 1;
    }
}

impl Device for OverCurrentCounter {
    fn find(tree: &Tree<'_>) -> Vec<Self> {
        let is_expected = |name: &str| {
            let mut locations = tree.expected(Capability::OverCurrentEvents);
            locations.any(|find| matches!(find, SensorLocation::Hwmon(wanted) if wanted.as_str() == name))
        };
        let mut found = Vec::new();
        for chip in tree.hwmon().into_iter().filter(|chip| chip.name == "soctherm_oc" || is_expected(&chip.name)) {
            for (number, kind) in [
                (1, OverCurrentKind::UnderVoltage),
                (2, OverCurrentKind::AveragePower),
                (3, OverCurrentKind::InstantaneousPower),
            ] {
                let file = Attribute::open(chip.folder.join(format!("oc{number}_event_cnt")));
                if file.is_there() {
                    found.push(Self {
                        name: format!("oc{number}"),
                        folder: chip.folder.clone(),
                        kind,
                        throttles: tree::number(&chip.folder.join(format!("oc{number}_throt_en"))) != Some(0),
                        file,
                        events: Tracked::new(),
                        window: Window::default(),
                        rate: Tracked::new(),
                    });
                }
            }
        }
        found
    }

    fn identity(&self) -> &str {
        &self.name
    }

    fn is_needed(&self) -> bool {
        self.throttles
    }

    fn read(&mut self, pass: &mut Pass<'_>) {
        let number = self.file.number(pass.buffer);
        let events = number.and_then(|number| u64::try_from(number).map_err(|_| Missing::Malformed));
        self.events.update(events, pass.now);
        let rate = events.and_then(|events| self.window.rate(events, pass.now).ok_or(Missing::Unavailable));
        self.rate.update(rate, pass.now);
    }

    fn inherit(&mut self, earlier: &Self) {
        self.events = earlier.events;
        self.window = earlier.window.clone();
        self.rate = earlier.rate;
    }

    fn close(&mut self) {
        self.file.close();
    }
}

/// The sums of those that cut clocks. One that is missing leaves no sum.
pub(super) fn rates(counters: &[OverCurrentCounter]) -> Measurement<OverCurrentRates> {
    let mut rates = OverCurrentRates::default();
    let (mut age, mut known) = (None, false);
    for counter in counters.iter().filter(|counter| counter.throttles) {
        let rate = match counter.rate() {
            Measurement::Measured(rate) => rate,
            Measurement::Projected { value, age: of_this } => {
                age = age.max(Some(of_this));
                value
            }
            Measurement::Missing(reason) => return Measurement::Missing(reason),
        };
        known = true;
        match counter.kind {
            OverCurrentKind::UnderVoltage | OverCurrentKind::AveragePower => rates.sustained += rate,
            OverCurrentKind::InstantaneousPower => rates.instantaneous += rate,
        }
    }
    match age {
        _ if !known => Measurement::Missing(Missing::Absent),
        Some(age) => Measurement::Projected { value: rates, age },
        None => Measurement::Measured(rates),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(milliseconds: u64) -> TimeSpan {
        TimeSpan::from_nanoseconds(milliseconds * 1_000_000)
    }

    #[test]
    fn bursts_are_averaged() {
        let mut window = Window::default();
        assert_eq!(window.rate(1000, milliseconds(0)), None);
        // 20 events every 2 s are 10 a second, whenever one looks.
        for step in 1..40 {
            let rate = window.rate(1000 + step / 2 * 20, milliseconds(step * 1000)).unwrap();
            if step >= 4 {
                assert!((rate - 10.0).abs() < 1e-6, "step {step}: {rate}");
            }
        }
    }

    #[test]
    fn more_samples_than_fit_and_none_for_long_are_both_fine() {
        let mut window = Window::default();
        let rates: Vec<_> = (0..10_000).map(|step| window.rate(step, milliseconds(step))).collect();
        assert!(rates[1..].iter().all(|rate| (rate.unwrap() - 1000.0).abs() < 1.0));
        assert_eq!(window.rate(20_000, milliseconds(20_000)).map(f32::round), Some(1000.0));
    }

    #[test]
    fn a_counter_that_goes_back_starts_again() {
        let mut window = Window::default();
        window.rate(500, milliseconds(0));
        assert_eq!(window.rate(500, milliseconds(1000)), Some(0.0));
        assert_eq!(window.rate(3, milliseconds(2000)), None);
        assert_eq!(window.rate(5, milliseconds(3000)), Some(2.0));
        assert_eq!(window.rate(5, milliseconds(100)), None);
    }
}
