//! How far two results are apart, and how far they may be.

use serde::Serialize;

/// Of anything in f32 from what PyTorch computed: the difference that the golden cases allow. Ours are within 5e-6.
pub(super) const FROM_PYTORCH: f64 = 1e-4;
/// Of candle from the CPU engine, both in f32 with sums in another order.
pub(super) const BETWEEN_EXECUTORS: f64 = 1e-4;
/// Of the direction of an embedding in f16 from that in f32, as one minus the cosine: f16 keeps three digits of each
/// number, and their errors do not add up in one direction.
#[cfg(feature = "cuda")]
pub(super) const OF_F16: f64 = 1e-3;
/// Of the fidelity of a rung that was pruned on a GPU from that of the same rung of a job on the CPU: sums in another
/// order rank structures of nearly the same score another way round.
pub(super) const OF_FIDELITY: f64 = 0.01;

/// Of what is the same bit for bit.
pub(super) const NOTHING: f64 = 0.0;

/// What two results are compared by. Less is nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// The largest difference of two values over the largest value.
    RelativeDifference,
    /// One minus the cosine.
    CosineDistance,
    /// The largest difference between the fidelities of two rungs of the same number.
    FidelityDifference,
    /// Rungs that one of two ladders has more than the other.
    MissingRungs,
    /// Bundles that are not the same bytes.
    DifferentBundles,
    /// Values whose bits differ.
    DifferentValues,
}

impl Measure {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::RelativeDifference => "relative difference",
            Self::CosineDistance => "1 - cosine",
            Self::FidelityDifference => "difference of fidelity",
            Self::MissingRungs => "missing rungs",
            Self::DifferentBundles => "different bundles",
            Self::DifferentValues => "different values",
        }
    }
}

/// NaN where a value is not finite or the lengths differ: that is near nothing.
pub(super) fn relative_difference(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() || found.iter().chain(expected).any(|value| !value.is_finite()) {
        return f64::NAN;
    }
    let largest = expected.iter().fold(f64::MIN_POSITIVE, |largest, &value| largest.max(f64::from(value).abs()));
    let differences = found.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
    differences.fold(0.0, f64::max) / largest
}

/// NaN as of [`relative_difference`].
#[cfg(any(feature = "cuda", test))]
pub(super) fn cosine_distance(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() {
        return f64::NAN;
    }
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    // Rounding of the cosine itself is no difference.
    let distance = 1.0 - dot(found, expected) / (dot(found, found) * dot(expected, expected)).sqrt();
    if distance.is_nan() { distance } else { distance.max(0.0) }
}

/// How many values are not the same bits; all of them where the lengths differ.
pub(super) fn different_values(found: &[f32], expected: &[f32]) -> f64 {
    if found.len() != expected.len() {
        return found.len().max(expected.len()) as f64;
    }
    found.iter().zip(expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearer_is_less_and_nan_is_near_nothing() {
        assert_eq!(relative_difference(&[1.0, -2.0], &[1.0, -2.0]), 0.0);
        assert_eq!(relative_difference(&[1.0, 0.0], &[2.0, 4.0]), 1.0);
        assert!(cosine_distance(&[1.0, 2.0], &[2.0, 4.0]) < 1e-12);
        assert_eq!(cosine_distance(&[1.0, 0.0], &[0.0, 3.0]), 1.0);
        for wrong in [vec![f32::NAN, 1.0], vec![1.0]] {
            assert!(relative_difference(&wrong, &[1.0, 1.0]).is_nan());
            assert!(cosine_distance(&wrong, &[1.0, 1.0]).is_nan());
            assert!(relative_difference(&[1.0, 1.0], &wrong).is_nan());
            assert!(cosine_distance(&[1.0, 1.0], &wrong).is_nan());
        }
        assert_eq!(different_values(&[1.0, 0.0, 2.0], &[1.0, -0.0, 3.0]), 2.0);
        assert_eq!(different_values(&[1.0], &[1.0, 2.0]), 2.0);
    }
}
