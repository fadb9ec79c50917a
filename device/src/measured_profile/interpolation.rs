//! Straight lines between measured rungs, and how far off they are.

use headroom_shared::{Energy, TimeSpan};
use serde::{Deserialize, Serialize};

/// The cost of a sub-network that was not measured itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interpolated {
    pub latency: TimeSpan,
    /// Absent where there are too few rungs to know.
    pub latency_error: Option<InterpolationError>,
    /// Where the rungs have one.
    pub energy: Option<Energy>,
    pub energy_error: Option<InterpolationError>,
}

/// How far off interpolation was where it could be checked: each rung but the
/// first and the last was predicted from its two neighbours, as if it had not
/// been measured (leave-one-out). These gaps are twice as wide as those that
/// are interpolated over, so that the error of a real interpolation is rather
/// smaller, noise apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterpolationError {
    /// Mean of |predicted - measured| / measured.
    #[serde(rename = "mean_relative_error")]
    pub mean: f64,
    /// The largest.
    #[serde(rename = "worst_relative_error")]
    pub worst: f64,
}

/// The value at `macs` on the line between its neighbours of `points`, which
/// are `(MACs, value)` with falling MACs; `None` outside of them.
pub(super) fn at(points: &[(u64, f64)], macs: u64) -> Option<f64> {
    if let Some((_, value)) = points.iter().find(|(at, _)| *at == macs) {
        return Some(*value);
    }
    let pair = points.windows(2).find(|pair| pair[0].0 > macs && macs > pair[1].0)?;
    Some(line(pair[0], pair[1], macs))
}

fn line(larger: (u64, f64), smaller: (u64, f64), macs: u64) -> f64 {
    let part = (macs - smaller.0) as f64 / (larger.0 - smaller.0) as f64;
    smaller.1 + part * (larger.1 - smaller.1)
}

/// The error over all inner points; `None` where there are none.
pub(super) fn leave_one_out(points: &[(u64, f64)]) -> Option<InterpolationError> {
    let errors: Vec<f64> = points
        .windows(3)
        .map(|three| (line(three[0], three[2], three[1].0) - three[1].1).abs() / three[1].1)
        .filter(|error| error.is_finite())
        .collect();
    let worst = errors.iter().copied().reduce(f64::max)?;
    Some(InterpolationError { mean: errors.iter().sum::<f64>() / errors.len() as f64, worst })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_interpolated_without_error() {
        let points = [(100, 10.0), (60, 6.0), (50, 5.0), (10, 1.0)];
        assert_eq!(at(&points, 60), Some(6.0));
        assert!((at(&points, 80).unwrap() - 8.0).abs() < 1e-12);
        assert!(leave_one_out(&points).unwrap().worst < 1e-12);
        assert_eq!(leave_one_out(&points[..2]), None);
        assert_eq!(at(&points, 101), None);
        assert_eq!(at(&[], 1), None);
    }

    proptest! {
        #[test]
        fn what_is_interpolated_lies_between_its_neighbours(
            gaps in prop::collection::vec(1u64..1000, 2..20), values in prop::collection::vec(0.001f64..1e3, 20), part in 0f64..1.0,
        ) {
            let total: u64 = gaps.iter().sum();
            let mut macs = total + 1;
            let points: Vec<(u64, f64)> = gaps.iter().zip(&values).map(|(gap, value)| { macs -= gap; (macs, *value) }).collect();
            let (largest, smallest) = (points[0].0, points[points.len() - 1].0);
            let at_macs = smallest + ((largest - smallest) as f64 * part) as u64;
            let found = at(&points, at_macs).unwrap();
            let around: Vec<f64> = points.windows(2).filter(|pair| pair[0].0 >= at_macs && at_macs >= pair[1].0).flat_map(|pair| [pair[0].1, pair[1].1]).collect();
            let low = around.iter().copied().fold(f64::INFINITY, f64::min);
            let high = around.iter().copied().fold(0.0, f64::max);
            prop_assert!((low - 1e-9..=high + 1e-9).contains(&found), "{} not in {}..{}", found, low, high);
        }
    }
}
