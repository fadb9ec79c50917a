//! Weighted k-nearest-neighbour classification, as DINO evaluates embeddings
//! (Caron et al., arXiv 2104.14294, after Wu et al., arXiv 1805.01978).
//!
//! Each of the `k` images of the bank whose embeddings have the largest cosine
//! `c` to the query's votes for its class with `exp(c / temperature)`.

use rayon::prelude::*;

/// Embeddings with labels.
#[derive(Clone, Copy, Debug)]
pub struct Bank<'a> {
    /// `[images, width]`.
    pub embeddings: &'a [f32],
    /// The class of each image, below `classes`.
    pub labels: &'a [usize],
    pub classes: usize,
    pub width: usize,
}

/// The class of each row of `queries` `[images, width]`. Equal votes go to the first class, equal cosines to the first
/// image of the bank.
#[must_use]
pub fn classify(bank: Bank<'_>, queries: &[f32], neighbours: usize, temperature: f64) -> Vec<usize> {
    let known: Vec<f32> = bank.embeddings.chunks_exact(bank.width).flat_map(unit).collect();
    let classify = |query: &[f32]| {
        let query = unit(query);
        let cosine = |row: &[f32]| row.iter().zip(&query).map(|(a, b)| a * b).sum::<f32>();
        let mut cosines: Vec<(f32, usize)> =
            known.chunks_exact(bank.width).map(cosine).zip(bank.labels.iter().copied()).collect();
        // Stable, so that ties are settled by the order of the bank.
        cosines.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut votes = vec![0.0; bank.classes];
        for &(cosine, label) in cosines.iter().take(neighbours) {
            // Relative to the nearest, so that no temperature overflows.
            votes[label] += (f64::from(cosine - cosines[0].0) / temperature).exp();
        }
        let better = |best: usize, class: usize| if votes[class] > votes[best] { class } else { best };
        (0..bank.classes).reduce(better).unwrap_or(0)
    };
    queries.par_chunks_exact(bank.width).map(classify).collect()
}

fn unit(row: &[f32]) -> Vec<f32> {
    let norm = row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    // A row of zeros is near to nothing.
    let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    row.iter().map(|&value| (f64::from(value) * scale) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cosines to `[1, 0]`: 1 (class 0), 0.8 and 0.8 (class 1), 0 (class 0).
    const BANK: [f32; 8] = [2.0, 0.0, 0.8, 0.6, 0.8, -0.6, 0.0, 3.0];

    fn class(neighbours: usize, temperature: f64) -> usize {
        let bank = Bank { embeddings: &BANK, labels: &[0, 1, 1, 0], classes: 2, width: 2 };
        classify(bank, &[5.0, 0.0], neighbours, temperature)[0]
    }

    #[test]
    fn near_images_outvote_many() {
        assert_eq!(class(1, 0.07), 0);
        // Two votes of exp(-0.2 / T) against one: more than one if T > 0.2 / ln 2 = 0.2885.
        assert_eq!(class(3, 0.28), 0);
        assert_eq!(class(3, 0.30), 1);
        // The fourth adds exp(-1 / T) to the one.
        assert_eq!(class(100, 0.30), 0);
        assert_eq!(class(3, 1e-9), 0);
    }

    #[test]
    fn nothing_is_near_to_zeros() {
        let bank = Bank { embeddings: &[0.0, 0.0, -1.0, 0.0], labels: &[1, 0], classes: 2, width: 2 };
        assert_eq!(classify(bank, &[0.0, 0.0], 1, 0.07), [1]);
    }
}
