//! Scores of other methods, to compare with in the same frame: the same
//! structures, floors, ladder and board.
//!
//! | score | of a structure | source |
//! |---|---|---|
//! | [`random`] | a random number | |
//! | [`magnitude`] | the norm of its weights | Han et al., arXiv 1506.02626, for groups of weights |
//! | [`lamp`] | its squared norm over those of all that are not smaller in its layer | Lee et al., arXiv 2010.07611 |
//!
//! SNIP's `|gradient x weight|` (Lee et al., arXiv 1810.02340) is a
//! [form](crate::importance::FisherForm::Saliency) of the self-supervised
//! importance. LAMP is defined for single weights; here a layer is the heads or
//! the neurons of a block, and a structure counts as one weight.
//!
//! Heads and neurons are ranked apart, as in the published method: none of these
//! scores compares between the kinds.

use candle_core::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::executor::CandleVit;
use crate::importance::Importance;

/// Random numbers from 0 to 1.
#[must_use]
pub fn random(model: &CandleVit, seed: u64) -> Importance {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut scores = |structures: usize| -> Vec<Vec<f64>> {
        (0..model.depth()).map(|_| (0..structures).map(|_| random.random()).collect()).collect()
    };
    Importance { heads: scores(model.heads()), neurons: scores(model.neurons()), ..Importance::default() }
}

/// The norm of a structure's weights.
///
/// # Errors
/// If the device fails.
pub fn magnitude(model: &CandleVit) -> Result<Importance> {
    of_squared_norms(model, |squares| squares.into_iter().map(f64::sqrt).collect())
}

/// The share of a structure in what is left of its layer when all smaller ones are gone.
///
/// # Errors
/// If the device fails.
pub fn lamp(model: &CandleVit) -> Result<Importance> {
    of_squared_norms(model, lamp_of)
}

fn of_squared_norms(model: &CandleVit, score: fn(Vec<f64>) -> Vec<f64>) -> Result<Importance> {
    let mut importance = Importance::default();
    for block in 0..model.depth() {
        let squares = model.squared_norms(block)?;
        importance.heads.push(score(squares.heads));
        importance.neurons.push(score(squares.neurons));
    }
    Ok(importance)
}

fn lamp_of(squares: Vec<f64>) -> Vec<f64> {
    let mut largest_first: Vec<usize> = (0..squares.len()).collect();
    largest_first.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]));
    let mut scores = vec![0.0; squares.len()];
    let mut left = 0.0;
    for structure in largest_first {
        left += squares[structure];
        // A structure of zeros alone is the first to go.
        scores[structure] = if left > 0.0 { squares[structure] / left } else { 0.0 };
    }
    scores
}

#[cfg(test)]
mod tests;
