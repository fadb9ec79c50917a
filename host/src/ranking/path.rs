//! How far neurons and heads have been removed at the same moment.

use std::cmp::Ordering;

use crate::ranking::{RankingError, Sparsities, Sparsity};

/// The piecewise-linear curve of sparsities along which a model shrinks.
///
/// It starts at the dense model, passes through each sparsity of the search and
/// goes on to the limit that the floors set, where both kinds arrive together.
#[derive(Clone, Debug, PartialEq)]
pub struct SparsityPath {
    /// Rising; the first is dense.
    corners: Vec<Sparsity>,
}

/// A moment on a path: a segment and the part of it that has passed, 0 to 1.
///
/// Kept apart, so that a moment is never rounded past the corner at the end of
/// its segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moment {
    segment: usize,
    part: f64,
}

impl Moment {
    /// Earlier moments first.
    pub(super) fn total_cmp(&self, other: &Self) -> Ordering {
        self.segment.cmp(&other.segment).then(self.part.total_cmp(&other.part))
    }
}

impl SparsityPath {
    /// The path through `sparsities` to `limit`, the largest shares that the floors allow.
    ///
    /// # Errors
    /// If the last sparsity lies beyond the limit.
    pub fn new(sparsities: &Sparsities, limit: Sparsity) -> Result<Self, RankingError> {
        let mut corners = vec![Sparsity::DENSE];
        for &asked in sparsities.as_slice() {
            if asked.neurons > limit.neurons || asked.heads > limit.heads {
                return Err(RankingError::BeyondFloors { asked, limit });
            }
            corners.push(asked);
        }
        corners.push(limit);
        Ok(Self { corners })
    }

    /// The first moment at which `share(sparsity)` is at least `target`, which is
    /// above 0. A target beyond the limit is due at the end.
    pub(super) fn moment_of(&self, target: f64, share: impl Fn(&Sparsity) -> f64) -> Moment {
        let last = self.corners.len() - 1;
        let end = self.corners[1..].partition_point(|corner| share(corner) < target) + 1;
        if end > last {
            return Moment { segment: last - 1, part: 1.0 };
        }
        let (from, to) = (share(&self.corners[end - 1]), share(&self.corners[end]));
        Moment { segment: end - 1, part: (target - from) / (to - from) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Sparsity = Sparsity { neurons: 0.95, heads: 0.8 };

    fn path(sparsities: &str) -> SparsityPath {
        SparsityPath::new(&sparsities.parse().expect("sparsities"), LIMIT).expect("within the limit")
    }

    #[test]
    fn a_kind_that_stands_still_is_due_in_a_later_segment() {
        let path = path("0.15/0,0.35/0.2");
        let head = path.moment_of(0.1, |sparsity| sparsity.heads);
        assert_eq!(head, Moment { segment: 1, part: 0.5 });
        let neurons = path.moment_of(0.15, |sparsity| sparsity.neurons);
        assert_eq!(neurons, Moment { segment: 0, part: 1.0 });
    }

    #[test]
    fn both_kinds_reach_the_limit_at_the_end() {
        let path = path("0.5");
        let end = Moment { segment: 1, part: 1.0 };
        assert_eq!(path.moment_of(0.95, |sparsity| sparsity.neurons), end);
        assert_eq!(path.moment_of(0.8, |sparsity| sparsity.heads), end);
        assert_eq!(path.moment_of(0.9, |sparsity| sparsity.heads), end);
    }

    #[test]
    fn refuses_a_sparsity_beyond_the_floors() {
        let beyond = SparsityPath::new(&"0.5,0.9".parse().expect("sparsities"), LIMIT);
        let message = beyond.expect_err("refused").to_string();
        assert_eq!(message, "sparsity 0.9/0.9 removes more than the floors allow, at most 0.95/0.8");
    }
}
