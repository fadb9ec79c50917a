//! The rule by which the published code turns scores into a sub-network.

use serde::Serialize;

use crate::importance::Importance;
use crate::ranking::{Floors, Sparsity};

/// Structures kept in each block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeepCounts {
    /// Neurons of each block.
    pub neurons: Vec<usize>,
    /// Heads of each block.
    pub heads: Vec<usize>,
}

impl KeepCounts {
    pub(super) fn new(importance: &Importance, sparsity: Sparsity, floors: Floors) -> Self {
        Self {
            neurons: kept(&importance.neurons, sparsity.neurons, floors.neurons),
            heads: kept(&importance.heads, sparsity.heads, floors.heads),
        }
    }
}

/// Of all `n` structures, `floor(n x sparsity)` go, lowest score first, and every other of the score of the last
/// that goes; in each block the `floor(structures x floor)` of the highest scores always stay.
fn kept(scores: &[Vec<f64>], sparsity: f64, floor: f64) -> Vec<usize> {
    // The product is at most the number of structures, and never negative.
    let part = |count: usize, share: f64| (count as f64 * share) as usize;
    let mut removable = Vec::new();
    let mut blocks = Vec::new();
    for scores in scores {
        let mut falling = scores.clone();
        falling.sort_by(|a, b| b.total_cmp(a));
        let protected = part(falling.len(), floor).min(falling.len());
        let unprotected = falling.split_off(protected);
        removable.extend_from_slice(&unprotected);
        blocks.push((protected, unprotected));
    }
    let all = scores.iter().map(Vec::len).sum();
    removable.sort_by(f64::total_cmp);
    // More than the floors leave: what can go goes.
    let last = part(all, sparsity).min(removable.len()).checked_sub(1);
    let threshold = last.map_or(f64::NEG_INFINITY, |last| removable[last]);
    let left = |(protected, unprotected): (usize, Vec<f64>)| {
        protected + unprotected.iter().filter(|&&score| score > threshold).count()
    };
    blocks.into_iter().map(left).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worked_example() {
        let scores = [vec![5.0, 1.0, 2.0, 9.0], vec![3.0, 8.0, 7.0, 6.0]];
        assert_eq!(kept(&scores, 0.0, 0.0), [4, 4]);
        // Three of eight go: 1, 2 and 3.
        assert_eq!(kept(&scores, 0.375, 0.0), [2, 3]);
        // floor(8 x 0.49) = 3 as well.
        assert_eq!(kept(&scores, 0.49, 0.0), [2, 3]);
        // Each block keeps its two highest whatever is asked for.
        assert_eq!(kept(&scores, 0.99, 0.5), [2, 2]);
    }

    #[test]
    fn equal_scores_go_together() {
        let scores = [vec![1.0, 1.0, 1.0, 2.0]];
        assert_eq!(kept(&scores, 0.25, 0.0), [1]);
        // A protected one stays, though its score is that of the last that goes.
        assert_eq!(kept(&scores, 0.25, 0.5), [2]);
    }
}
