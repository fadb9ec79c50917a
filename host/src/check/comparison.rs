//! How far two results are apart, and how far they may be.

use serde::Serialize;

/// Of anything in f32 from what PyTorch computed: the difference that the golden cases allow. Ours are within 5e-6.
pub(super) const FROM_PYTORCH: f64 = 1e-4;
/// Of candle from the CPU engine, both in f32 with sums in another order.
pub(super) const BETWEEN_EXECUTORS: f64 = 1e-4;
/// Of the direction of an embedding in f16 from that in f32, as one minus the cosine: f16 keeps three digits of each
/// number, and their errors do not add up in one direction.
pub(super) const OF_F16: f64 = 1e-3;
/// Of the fidelity of a rung that was pruned on a GPU from that of the same rung of a job on the CPU: sums in another
/// order rank structures of nearly the same score another way round. On an H200 it was 0.008, of the smallest rung.
pub(super) const OF_FIDELITY: f64 = 0.02;

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

/// What a model computes of one image, or of several.
#[derive(Clone)]
pub(super) struct Outputs {
    pub pooled: Vec<f32>,
    /// Where the model has a classifier or a projection.
    pub logits: Option<Vec<f32>>,
}

impl Outputs {
    /// The larger of the distances of embeddings and logits; NaN where only one of the two has logits.
    pub(super) fn distance(&self, expected: &Self, measure: fn(&[f32], &[f32]) -> f64) -> f64 {
        let pooled = measure(&self.pooled, &expected.pooled);
        match (&self.logits, &expected.logits) {
            (None, None) => pooled,
            (Some(found), Some(expected)) => largest([pooled, measure(found, expected)]),
            (Some(_), None) | (None, Some(_)) => f64::NAN,
        }
    }

    pub(super) fn different_values(&self, expected: &Self) -> f64 {
        let of = |outputs: &Self| [outputs.pooled.as_slice(), outputs.logits.as_deref().unwrap_or_default()].concat();
        different_values(&of(self), &of(expected))
    }
}

/// NaN is larger than any number.
pub(super) fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    let values = values.into_iter().map(|value| if value.is_nan() { f64::NAN } else { value });
    values.max_by(f64::total_cmp).unwrap_or(f64::NAN)
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
fn different_values(found: &[f32], expected: &[f32]) -> f64 {
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

    #[test]
    fn logits_count_as_much_as_the_embedding() {
        let outputs = |pooled: f32, logits: Option<f32>| Outputs {
            pooled: vec![1.0, pooled],
            logits: logits.map(|logit| vec![logit, 1.0]),
        };
        let distance = |a: &Outputs, b: &Outputs| a.distance(b, relative_difference);
        assert_eq!(distance(&outputs(0.0, None), &outputs(0.5, None)), 0.5);
        assert_eq!(distance(&outputs(0.5, Some(0.0)), &outputs(0.5, Some(0.25))), 0.25);
        assert_eq!(outputs(0.5, Some(0.0)).different_values(&outputs(0.5, Some(0.25))), 1.0);
        assert!(distance(&outputs(0.5, Some(0.0)), &outputs(0.5, None)).is_nan());
        assert!(distance(&outputs(0.0, Some(f32::NAN)), &outputs(0.0, Some(f32::NAN))).is_nan());
    }
}
