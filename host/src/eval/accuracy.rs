//! Shares and means with their confidence intervals, at 95 %.

use serde::Serialize;
use stats_ci::{Confidence, StatisticsOps, mean, proportion};

/// The share of images that are classified right, with Wilson's score interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// 0 to 1.
    pub value: f64,
    /// The interval's ends.
    pub low: f64,
    pub high: f64,
    /// Images that were judged.
    pub images: usize,
}

/// A mean over images, with Student's interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    pub value: f64,
    /// The interval's ends; the value itself where there are too few images for one.
    pub low: f64,
    pub high: f64,
}

fn confidence() -> Confidence {
    Confidence::new_two_sided(0.95)
}

impl Accuracy {
    /// `right` of `images`.
    #[must_use]
    pub fn of(right: usize, images: usize) -> Self {
        let value = right as f64 / images.max(1) as f64;
        // Refused where there is next to nothing to judge by: the interval is then everything.
        let (low, high) = proportion::ci_wilson(confidence(), images, right)
            .ok()
            .and_then(|interval| Some((*interval.left()?, *interval.right()?)))
            .unwrap_or((0.0, 1.0));
        Self { value, low, high, images }
    }
}

impl Mean {
    /// Of these values, at least one.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let value = values.iter().sum::<f64>() / values.len() as f64;
        let ends = || -> Option<(f64, f64)> {
            // One value has no deviation, and the library does not expect the attempt.
            if values.len() < 2 || !value.is_finite() {
                return None;
            }
            let mut statistics = mean::Arithmetic::new();
            values.iter().try_for_each(|&value| statistics.append(value)).ok()?;
            let interval = statistics.ci_mean(confidence()).ok()?;
            Some((*interval.left()?, *interval.right()?))
        };
        let (low, high) = ends().filter(|(low, high)| low.is_finite() && high.is_finite()).unwrap_or((value, value));
        Self { value, low, high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_share_is_wilsons() {
        // Newcombe 1998, table I (doi 10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E): 81 of 263.
        let share = Accuracy::of(81, 263);
        assert!((share.low - 0.2553).abs() < 5e-5 && (share.high - 0.3662).abs() < 5e-5, "{share:?}");
        let none = Accuracy::of(0, 0);
        assert_eq!((none.value, none.low, none.high), (0.0, 0.0, 1.0));
        for (right, images) in [(0, 50), (50, 50), (1, 2)] {
            let share = Accuracy::of(right, images);
            assert!(0.0 <= share.low && share.low <= share.value && share.value <= share.high && share.high <= 1.0);
        }
    }

    #[test]
    fn the_interval_of_a_mean_is_students() {
        let mean = Mean::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        // 3 +- 2.776 * sqrt(2.5 / 5)
        assert!((mean.value - 3.0).abs() < 1e-12 && (mean.low - (3.0 - 1.963)).abs() < 1e-3, "{mean:?}");
        assert_eq!(Mean::of(&[0.5]), Mean { value: 0.5, low: 0.5, high: 0.5 });
        assert_eq!(Mean::of(&[1.0, 1.0]).value, 1.0);
    }
}
