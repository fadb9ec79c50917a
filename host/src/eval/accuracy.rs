//! Shares and means with their confidence intervals, at 95 %.

use serde::Serialize;

/// The standard normal quantile of 97.5 %.
const Z: f64 = 1.959_963_984_540_054;

/// The share of images that are classified right, with Wilson's score interval, which holds for few images and at 0 and
/// 1 too (Wilson 1927, doi 10.1080/01621459.1927.10502953).
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

/// A mean over images, with the normal interval: the images are many.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mean {
    pub value: f64,
    /// The interval's ends; the value itself of a single image.
    pub low: f64,
    pub high: f64,
}

impl Accuracy {
    /// `right` of `images`, at least one.
    #[must_use]
    pub fn of(right: usize, images: usize) -> Self {
        let (n, value) = (images as f64, right as f64 / images as f64);
        let centre = value + Z * Z / (2.0 * n);
        let half = Z * (value * (1.0 - value) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        // Rounding may leave the ends a little beyond the value that they coincide with at 0 and 1.
        Self {
            value,
            low: ((centre - half) / scale).clamp(0.0, value),
            high: ((centre + half) / scale).clamp(value, 1.0),
            images,
        }
    }
}

impl Mean {
    /// Of these values, at least one.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let value = values.iter().sum::<f64>() / n;
        let squares = values.iter().map(|one| (one - value).powi(2)).sum::<f64>();
        let half = if values.len() > 1 { Z * (squares / (n - 1.0) / n).sqrt() } else { 0.0 };
        Self { value, low: value - half, high: value + half }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_share_is_wilsons() {
        // Newcombe 1998, table I, method 3 (doi 10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E).
        for (right, images, low, high) in [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)] {
            let share = Accuracy::of(right, images);
            assert!((share.low - low).abs() < 5e-5 && (share.high - high).abs() < 5e-5, "{share:?}");
        }
        for (right, images) in [(0, 50), (50, 50), (1, 2), (1, 1)] {
            let share = Accuracy::of(right, images);
            assert!(0.0 <= share.low && share.low <= share.value && share.value <= share.high && share.high <= 1.0);
        }
    }

    #[test]
    fn the_interval_of_a_mean_is_from_its_standard_error() {
        let mean = Mean::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        // 3 +- 1.96 * sqrt(2.5 / 5)
        assert!((mean.value - 3.0).abs() < 1e-12 && (mean.high - 4.3859).abs() < 1e-4, "{mean:?}");
        assert_eq!(Mean::of(&[0.5]), Mean { value: 0.5, low: 0.5, high: 0.5 });
    }
}
