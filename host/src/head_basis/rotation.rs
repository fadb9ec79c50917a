//! The change of basis of one head.

use faer::{Mat, Side};

/// Directions that vary less than this part of the most varying one are taken to vary so much: their inverse would be
/// made of rounding.
const LEAST_VARIANCE: f64 = 1e-6;

/// An invertible `R` and its inverse, `[head_dim, head_dim]`.
pub(super) struct Rotation {
    pub forward: Mat<f64>,
    pub inverse: Mat<f64>,
}

impl Rotation {
    /// For values with second moments `second`, which the projection's `columns` `[embed_dim, head_dim]` read; `None`
    /// if a value is not finite.
    pub(super) fn of_values(second: &Mat<f64>, columns: &Mat<f64>) -> Option<Self> {
        let Some(roots) = Roots::new(second)? else { return Some(Self::identity(second.nrows())) };
        let dim = second.nrows();
        let weighted = columns * &roots.root;
        let right = (weighted.transpose() * &weighted).self_adjoint_eigen(Side::Lower).ok()?;
        // The largest first.
        let turned = Mat::from_fn(dim, dim, |i, j| right.U()[(i, dim - 1 - j)]);
        Some(Self { forward: turned.transpose() * &roots.inverse, inverse: &roots.root * turned })
    }

    /// For queries and keys with these second moments; `None` if a value is not finite.
    pub(super) fn of_queries(queries: &Mat<f64>, keys: &Mat<f64>) -> Option<Self> {
        let (Some(queries), Some(keys)) = (Roots::new(queries)?, Roots::new(keys)?) else {
            return Some(Self::identity(queries.nrows()));
        };
        let dim = queries.root.nrows();
        let svd = (&queries.root * &keys.root).svd().ok()?;
        let (left, values, right) = (svd.U(), svd.S().column_vector(), svd.V());
        let left = Mat::from_fn(dim, dim, |i, j| left[(i, j)] * values[j].sqrt());
        let right = Mat::from_fn(dim, dim, |i, j| right[(i, j)] * values[j].sqrt());
        Some(Self { forward: left.transpose() * &queries.inverse, inverse: &keys.inverse * right })
    }

    /// Dimension `order[i]` at place `i`.
    pub(super) fn order(order: &[usize]) -> Self {
        let dim = order.len();
        let is = |new: usize, old: usize| if order[new] == old { 1.0 } else { 0.0 };
        Self { forward: Mat::from_fn(dim, dim, is), inverse: Mat::from_fn(dim, dim, |old, new| is(new, old)) }
    }

    /// The same with rows `forward * first` and `inverse^T * second` of equal norms, dimension by dimension. Both are
    /// `[head_dim, embed_dim]`.
    pub(super) fn balanced(self, first: &Mat<f64>, second: &Mat<f64>) -> Self {
        let (new_first, new_second) = (&self.forward * first, self.inverse.transpose() * second);
        let scale = |dim: usize| {
            let scale = (new_second.row(dim).norm_l2() / new_first.row(dim).norm_l2()).sqrt();
            // One of zeros has nothing to balance.
            if scale.is_finite() && scale > 0.0 { scale } else { 1.0 }
        };
        let scales: Vec<f64> = (0..first.nrows()).map(scale).collect();
        let Self { forward, inverse } = self;
        Self {
            forward: Mat::from_fn(forward.nrows(), forward.ncols(), |i, j| forward[(i, j)] * scales[i]),
            inverse: Mat::from_fn(inverse.nrows(), inverse.ncols(), |i, j| inverse[(i, j)] / scales[j]),
        }
    }

    fn identity(dim: usize) -> Self {
        Self { forward: Mat::identity(dim, dim), inverse: Mat::identity(dim, dim) }
    }
}

/// The symmetric square root of second moments and its inverse.
struct Roots {
    root: Mat<f64>,
    inverse: Mat<f64>,
}

impl Roots {
    /// `Some(None)` of moments that are all zero, such as those of a head that finds nothing; `None` if one is not
    /// finite.
    #[expect(clippy::option_option, reason = "nothing there and nothing to be had of it are two things")]
    fn new(second: &Mat<f64>) -> Option<Option<Self>> {
        let dim = second.nrows();
        let eigen = second.self_adjoint_eigen(Side::Lower).ok()?;
        let (vectors, variances) = (eigen.U(), eigen.S().column_vector());
        let most = variances[dim - 1];
        if !most.is_finite() {
            return None;
        }
        let least = most * LEAST_VARIANCE;
        if least <= 0.0 {
            return Some(None);
        }
        let power = |power: f64| {
            let scaled = Mat::from_fn(dim, dim, |i, j| vectors[(i, j)] * variances[j].max(least).powf(power));
            scaled * vectors.transpose()
        };
        Some(Some(Self { root: power(0.5), inverse: power(-0.5) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIM: usize = 4;

    fn value(i: usize, j: usize) -> f64 {
        ((i * 13 + j * 29 + 7) % 31) as f64 / 31.0 - 0.5
    }

    /// Well away from the least variance.
    fn moments(seed: usize) -> Mat<f64> {
        let root = Mat::from_fn(DIM, DIM, |i, j| value(i + seed, j) + if i == j { 1.0 } else { 0.0 });
        &root * root.transpose()
    }

    fn is_inverse(rotation: &Rotation) {
        let identity = &rotation.forward * &rotation.inverse;
        for i in 0..DIM {
            for j in 0..DIM {
                assert!((identity[(i, j)] - if i == j { 1.0 } else { 0.0 }).abs() < 1e-9);
            }
        }
    }

    fn is_diagonal(matrix: &Mat<f64>) {
        for i in 0..DIM {
            for j in 0..DIM {
                assert!(i == j || matrix[(i, j)].abs() < 1e-9 * matrix[(0, 0)], "{matrix:?}");
            }
        }
    }

    #[test]
    fn values_are_uncorrelated_their_columns_orthogonal_and_the_largest_first() {
        let (second, columns) = (moments(0), Mat::from_fn(6, DIM, |i, j| value(i + 3, j)));
        let rotation = Rotation::of_values(&second, &columns).unwrap();
        is_inverse(&rotation);
        let turned = &columns * &rotation.inverse;
        let gram = turned.transpose() * &turned;
        let variances = &rotation.forward * &second * rotation.forward.transpose();
        is_diagonal(&gram);
        is_diagonal(&variances);
        assert!((1..DIM).all(|i| gram[(i, i)] * variances[(i, i)] <= gram[(i - 1, i - 1)] * variances[(i - 1, i - 1)]));
    }

    #[test]
    fn queries_and_keys_are_uncorrelated_and_the_largest_first() {
        let (queries, keys) = (moments(0), moments(5));
        let rotation = Rotation::of_queries(&queries, &keys).unwrap();
        is_inverse(&rotation);
        let queries = &rotation.forward * queries * rotation.forward.transpose();
        let keys = rotation.inverse.transpose() * keys * &rotation.inverse;
        is_diagonal(&queries);
        is_diagonal(&keys);
        assert!((1..DIM).all(|i| queries[(i, i)] * keys[(i, i)] <= queries[(i - 1, i - 1)] * keys[(i - 1, i - 1)]));
    }

    #[test]
    fn rows_are_balanced() {
        let first = Mat::from_fn(DIM, 6, |i, j| 100.0 * value(i, j + 2));
        let second = Mat::from_fn(DIM, 6, |i, j| value(i + 4, j) + 0.1);
        let rotation = Rotation::of_queries(&moments(0), &moments(5)).unwrap().balanced(&first, &second);
        is_inverse(&rotation);
        let (first, second) = (&rotation.forward * first, rotation.inverse.transpose() * second);
        for dim in 0..DIM {
            assert!((first.row(dim).norm_l2() / second.row(dim).norm_l2() - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn nothing_stays_and_what_is_not_finite_is_refused() {
        let zeros = Mat::zeros(DIM, DIM);
        let rotation = Rotation::of_queries(&zeros, &moments(0)).unwrap();
        assert_eq!(rotation.forward, Mat::<f64>::identity(DIM, DIM));
        let rotation = Rotation::of_values(&zeros, &Mat::zeros(6, DIM)).unwrap();
        assert_eq!(rotation.inverse, Mat::<f64>::identity(DIM, DIM));
        let mut broken = moments(0);
        broken[(1, 1)] = f64::NAN;
        assert!(Rotation::of_queries(&moments(0), &broken).is_none());
    }
}
