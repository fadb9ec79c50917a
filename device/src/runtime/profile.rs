//! What each rung costs on this machine: the governor's profile.
//!
//! A ladder's predicted figures are of the processor that the board profile describes, and most often not of the one
//! that runs the engine. So the rungs are timed here, once, before a bundle serves.

use std::time::{Duration, Instant};

use headroom_shared::{Rung, TimeSpan};

use crate::bundle::Bundle;
use crate::calibration::RungTimer;
use crate::governor::RungProfile;
use crate::measured_profile::rung_profiles;
use crate::rung_engine::{RungEngine, RungEngineError};

/// How long the rungs of a bundle are timed where nobody else knows what they cost.
pub const TIMING: Duration = Duration::from_secs(1);

/// The profile that the bundle's ladder holds: measured figures where it has them, predicted ones elsewhere.
#[must_use]
pub fn from_ladder(bundle: &Bundle) -> Vec<RungProfile> {
    rung_profiles(bundle.structure_map().rungs())
}

/// The profile with latencies that are measured now, with inferences that `threads` threads share, in about `time` and
/// at least two inferences of the dense rung and one of the smallest. Energy follows the ladder's mean power: it is its
/// energy times measured over predicted latency.
///
/// # Errors
/// If the engine refuses a rung.
pub fn timed(engine: &RungEngine, threads: usize, time: Duration) -> Result<Vec<RungProfile>, RungEngineError> {
    let latencies = latencies(engine, threads, time)?;
    let map = engine.bundle().structure_map();
    let measured = map.rungs().iter().zip(latencies);
    let rungs: Vec<Rung<'_>> = measured
        .map(|(rung, latency)| Rung { measured_latency: Some(latency), measured_energy: None, ..*rung })
        .collect();
    Ok(rung_profiles(&rungs))
}

/// The fastest of a few inferences of each rung. Rungs for which there was no time are interpolated over MACs; no rung
/// is faster than a smaller one, which only noise makes it.
fn latencies(engine: &RungEngine, threads: usize, time: Duration) -> Result<Vec<TimeSpan>, RungEngineError> {
    let map = engine.bundle().structure_map();
    let rungs = map.rungs();
    let mut timer = RungTimer::with_threads(engine, threads);
    let mut run = |rung: usize| timer.run(rung).map(TimeSpan::as_seconds);
    let begin = Instant::now();
    // Warms caches and maps the workspace; not counted.
    run(0)?;
    let mut fastest = vec![None; rungs.len()];
    'rounds: for round in 0..MOST_ROUNDS {
        for (place, rung) in far_apart_first(rungs.len()).into_iter().enumerate() {
            if (round > 0 || place > 1) && begin.elapsed() >= time {
                break 'rounds;
            }
            let seconds = run(rung)?;
            fastest[rung] = Some(fastest[rung].map_or(seconds, |other: f64| other.min(seconds)));
        }
    }
    let macs: Vec<f64> = rungs.iter().map(|rung| rung.macs as f64).collect();
    Ok(completed(&macs, &fastest)
        .into_iter()
        .map(|seconds| TimeSpan::from_seconds(seconds).unwrap_or_default())
        .collect())
}

/// More repetitions than this find no faster one.
const MOST_ROUNDS: usize = 9;

/// All of `0..count`: both ends, then the middle of each gap, so that wherever one stops, what is known is spread.
fn far_apart_first(count: usize) -> Vec<usize> {
    let mut order = Vec::with_capacity(count);
    let mut gaps = std::collections::VecDeque::from([(0, count.saturating_sub(1))]);
    order.extend((0..count.min(1)).chain((count > 1).then(|| count - 1)));
    while let Some((low, high)) = gaps.pop_front() {
        if high - low > 1 {
            let middle = (low + high) / 2;
            order.push(middle);
            gaps.extend([(low, middle), (middle, high)]);
        }
    }
    order
}

/// Fills gaps between the known values by straight lines over `macs` (falling) and makes the result never rise. The
/// first and the last value are known.
fn completed(macs: &[f64], known: &[Option<f64>]) -> Vec<f64> {
    let at = |index: usize| known[index].map(|value| (macs[index], value));
    let mut values: Vec<f64> = (0..macs.len())
        .map(|index| {
            let larger = (0..=index).rev().find_map(at);
            let smaller = (index..macs.len()).find_map(at);
            match (larger, smaller) {
                (Some((x1, y1)), Some((x0, y0))) if x1 > x0 => y0 + (y1 - y0) * (macs[index] - x0) / (x1 - x0),
                (Some((_, value)), _) | (_, Some((_, value))) => value,
                (None, None) => 0.0,
            }
        })
        .collect();
    for index in (1..values.len()).rev() {
        values[index - 1] = values[index - 1].max(values[index]);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rung_comes_once_and_the_ends_first() {
        for count in 1..40 {
            let mut order = far_apart_first(count);
            assert_eq!(order[0], 0);
            assert_eq!(order[order.len().min(2) - 1], count - 1);
            order.sort_unstable();
            assert_eq!(order, (0..count).collect::<Vec<_>>());
        }
        assert_eq!(far_apart_first(9), [0, 8, 4, 2, 6, 1, 3, 5, 7]);
    }

    #[test]
    fn gaps_are_straight_lines_and_nothing_rises() {
        let macs = [100.0, 80.0, 50.0, 20.0];
        assert_eq!(completed(&macs, &[Some(10.0), None, None, Some(2.0)]), [10.0, 8.0, 5.0, 2.0]);
        assert_eq!(completed(&macs, &[Some(10.0), None, Some(12.0), Some(2.0)]), [12.0, 12.0, 12.0, 2.0]);
        assert_eq!(completed(&[1.0], &[Some(3.0)]), [3.0]);
    }
}
