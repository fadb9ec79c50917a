//! What ran since the last telemetry.

use std::sync::Mutex;

use headroom_shared::{MAX_RUNGS, TimeSpan};

use crate::lock::lock;
use crate::reading::InferenceSample;

/// Counts inferences by rung. It has a fixed size, and whoever infers waits for nothing but a few additions.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<[Ran; MAX_RUNGS]>);

/// The inferences of one rung.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ran {
    count: u32,
    nanoseconds: u64,
}

impl Tally {
    pub(super) fn count(&self, sample: InferenceSample) {
        if let Some(ran) = lock(&self.0).get_mut(usize::from(sample.rung)) {
            ran.count = ran.count.saturating_add(1);
            ran.nanoseconds = ran.nanoseconds.saturating_add(sample.latency.as_nanoseconds());
        }
    }

    /// The rungs that ran since the last call, with their mean latencies and how often they ran.
    pub(super) fn take(&self) -> impl Iterator<Item = (InferenceSample, u32)> {
        let ran = std::mem::take(&mut *lock(&self.0));
        ran.into_iter().zip(0..).filter(|(ran, _)| ran.count > 0).map(|(ran, rung)| {
            let latency = TimeSpan::from_nanoseconds(ran.nanoseconds / u64::from(ran.count));
            (InferenceSample { rung, latency }, ran.count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_of_each_rung_are_taken_once() {
        let tally = Tally::default();
        for (rung, nanoseconds) in [(2, 10), (2, 20), (0, 7), (200, 1)] {
            tally.count(InferenceSample { rung, latency: TimeSpan::from_nanoseconds(nanoseconds) });
        }
        let taken: Vec<_> =
            tally.take().map(|(mean, count)| (mean.rung, mean.latency.as_nanoseconds(), count)).collect();
        assert_eq!(taken, [(0, 7, 1), (2, 15, 2)]);
        assert_eq!(tally.take().count(), 0);
    }
}
