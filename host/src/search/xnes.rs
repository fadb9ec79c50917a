//! xNES, the exponential natural evolution strategy.
//!
//! Glasmachers, Schaul, Sun, Wierstra and Schmidhuber: Exponential natural
//! evolution strategies, GECCO 2010, doi 10.1145/1830483.1830557. The search
//! distribution is normal with mean m and square root of the covariance
//! A = sigma B, det B = 1. A generation draws z_k ~ N(0, I), evaluates m + A z_k,
//! and with utilities u_k by rank moves along the natural gradient:
//!
//! ```text
//! G_m = sum u_k z_k           m     <- m + A G_m
//! G_M = sum u_k z_k z_k^T     sigma <- sigma exp(rate/2 tr(G_M)/d)
//!                             B     <- B exp(rate/2 (G_M - tr(G_M)/d I))
//! ```
//!
//! (The utilities sum to zero, so the identity in the paper's z z^T - I cancels.)
//! Defaults are the paper's: 4 + floor(3 ln d) points a generation, mean rate 1,
//! rate (9 + 3 ln d) / (5 d sqrt d) for both sigma and B.
//!
//! With d = 156 and 50 evaluations, the published budget of SnapViT, B moves by
//! 0.25 % a generation twice: the step size `sigma` then decides what is searched.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::search::eigen::symmetric_eigen;
use crate::search::{Strategy, StrategyError, exact};

/// How an [`Xnes`] starts.
#[derive(Clone, Debug, PartialEq)]
pub struct XnesOptions {
    /// The first mean; its length is the dimension.
    pub mean: Vec<f64>,
    /// The first standard deviation in every direction. 1 is what the published
    /// SnapViT scores were found with, on factors that start at 1.2 to 0.8: wide,
    /// half of all draws lie over 0.67 away in each factor. A smaller one stays
    /// near the start, which local scores have already made a good one.
    pub sigma: f64,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Points in a generation, at least 2; `None` for the paper's default.
    pub population: Option<usize>,
    /// Draw points in pairs m + A z, m - A z: less noise in the mean's gradient
    /// from as many evaluations. Not in the paper.
    pub mirrored: bool,
}

/// The optimiser. It maximises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Xnes {
    settings: String,
    population: usize,
    mirrored: bool,
    generation: u64,
    #[serde(with = "exact::numbers")]
    mean: Vec<f64>,
    #[serde(with = "exact::number")]
    sigma: f64,
    /// B, column by column.
    #[serde(with = "exact::numbers")]
    shape: Vec<f64>,
    /// The z of the generation that was asked for, point by point; empty if none was.
    #[serde(with = "exact::numbers")]
    draws: Vec<f64>,
    random: ChaCha8Rng,
}

impl XnesOptions {
    /// The published settings from `mean` on.
    #[must_use]
    pub fn new(mean: Vec<f64>, seed: u64) -> Self {
        Self { mean, sigma: 1.0, seed, population: None, mirrored: false }
    }
}

impl Xnes {
    /// Starts a search.
    ///
    /// # Errors
    /// If the mean is empty or not finite, sigma not positive and finite, or the
    /// population below 2.
    pub fn new(options: XnesOptions) -> Result<Self, StrategyError> {
        let XnesOptions { mean, sigma, seed, population, mirrored } = options;
        let dimensions = mean.len();
        if mean.is_empty() || !mean.iter().all(|value| value.is_finite()) {
            return Err(refused("the mean", "finite numbers, at least one", format!("{mean:?}")));
        }
        if !(sigma > 0.0 && sigma.is_finite()) {
            return Err(refused("sigma", "a positive finite number", sigma.to_string()));
        }
        let population = population.unwrap_or(4 + (3.0 * (dimensions as f64).ln()) as usize);
        if population < 2 {
            return Err(refused("the population", "at least 2", population.to_string()));
        }
        Ok(Self {
            settings: format!(
                "xnes: dimensions {dimensions}, sigma {sigma}, seed {seed}, population {population}, mirrored {mirrored}"
            ),
            population,
            mirrored,
            generation: 0,
            mean,
            sigma,
            shape: (0..dimensions * dimensions).map(|at| f64::from(u8::from(at % (dimensions + 1) == 0))).collect(),
            draws: Vec::new(),
            random: ChaCha8Rng::seed_from_u64(seed),
        })
    }

    /// The mean of the search distribution.
    #[must_use]
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The step size: the geometric mean of the standard deviations.
    #[must_use]
    pub fn sigma(&self) -> f64 {
        self.sigma
    }

    /// Points in a generation.
    #[must_use]
    pub fn population(&self) -> usize {
        self.population
    }

    fn dimensions(&self) -> usize {
        self.mean.len()
    }

    fn draw(&mut self) {
        let dimensions = self.dimensions();
        for point in 0..self.population {
            if self.mirrored && point % 2 == 1 {
                let opposite: Vec<f64> = self.draws[(point - 1) * dimensions..].iter().map(|z| -z).collect();
                self.draws.extend(opposite);
            } else {
                self.draws.extend((0..dimensions).map(|_| -> f64 { StandardNormal.sample(&mut self.random) }));
            }
        }
    }

    /// mean + sigma B z
    fn point(&self, z: &[f64]) -> Vec<f64> {
        let mut point = self.mean.clone();
        for (column, z) in self.shape.chunks_exact(self.dimensions()).zip(z) {
            for (value, b) in point.iter_mut().zip(column) {
                *value += self.sigma * b * z;
            }
        }
        point
    }

    /// B exp(scale gradient)
    fn shape_after(&self, gradient: &Mat<f64>, scale: f64) -> Option<Vec<f64>> {
        let dimensions = self.dimensions();
        let eigen = symmetric_eigen(gradient.as_ref())?;
        let shape = MatRef::from_column_major_slice(&self.shape, dimensions, dimensions);
        let mut rotated = Mat::<f64>::zeros(dimensions, dimensions);
        matmul(rotated.as_mut(), Accum::Replace, shape, eigen.vectors.as_ref(), 1.0, Par::Seq);
        for (column, value) in eigen.values.iter().enumerate() {
            let stretch = (scale * value).exp();
            rotated.col_mut(column).iter_mut().for_each(|entry| *entry *= stretch);
        }
        let mut product = Mat::<f64>::zeros(dimensions, dimensions);
        matmul(product.as_mut(), Accum::Replace, rotated.as_ref(), eigen.vectors.transpose(), 1.0, Par::Seq);
        Some(product.col_iter().flat_map(|column| column.iter().copied().collect::<Vec<f64>>()).collect())
    }
}

impl Strategy for Xnes {
    fn ask(&mut self) -> Vec<Vec<f64>> {
        if self.draws.is_empty() {
            self.draw();
        }
        self.draws.chunks_exact(self.dimensions()).map(|z| self.point(z)).collect()
    }

    fn tell(&mut self, fitness: &[f64]) -> Result<(), StrategyError> {
        if self.draws.is_empty() {
            return Err(StrategyError::NothingAsked);
        }
        if fitness.len() != self.population {
            return Err(StrategyError::Count { expected: self.population, found: fitness.len() });
        }
        if let Some(point) = fitness.iter().position(|value| value.is_nan()) {
            return Err(StrategyError::NotANumber { point });
        }
        let dimensions = self.dimensions();
        let mut mean_gradient = vec![0.0; dimensions];
        let mut gradient = Mat::<f64>::zeros(dimensions, dimensions);
        for (z, utility) in self.draws.chunks_exact(dimensions).zip(utilities(fitness)) {
            for (column, z_column) in z.iter().enumerate() {
                mean_gradient[column] += utility * z_column;
                for (entry, z_row) in gradient.col_mut(column).iter_mut().zip(z) {
                    *entry += utility * z_row * z_column;
                }
            }
        }
        let d = dimensions as f64;
        let rate = (9.0 + 3.0 * d.ln()) / (5.0 * d * d.sqrt());
        let growth = (0..dimensions).map(|at| gradient[(at, at)]).sum::<f64>() / d;
        for at in 0..dimensions {
            gradient[(at, at)] -= growth;
        }
        let mean = self.point(&mean_gradient);
        let sigma = self.sigma * (rate / 2.0 * growth).exp();
        let shape = self.shape_after(&gradient, rate / 2.0);
        match shape {
            Some(shape) if mean.iter().chain(&shape).chain([&sigma]).all(|value| value.is_finite()) => {
                (self.mean, self.sigma, self.shape) = (mean, sigma, shape);
                self.draws.clear();
                self.generation += 1;
                Ok(())
            }
            _ => Err(StrategyError::Diverged { generation: self.generation }),
        }
    }

    fn settings(&self) -> String {
        self.settings.clone()
    }
}

/// The paper's utilities, positive for the better half and zero in sum, by rank
/// of falling fitness. Points of equal fitness share theirs: no order between
/// them is known, and the search must not drift on one.
fn utilities(fitness: &[f64]) -> Vec<f64> {
    let count = fitness.len();
    let raw = |rank: usize| ((count as f64 / 2.0 + 1.0).ln() - ((rank + 1) as f64).ln()).max(0.0);
    let total: f64 = (0..count).map(raw).sum();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| fitness[b].total_cmp(&fitness[a]));
    let mut utilities = vec![0.0; count];
    let mut rank = 0;
    for equal in order.chunk_by(|&a, &b| fitness[a] == fitness[b]) {
        let shared = (rank..rank + equal.len()).map(raw).sum::<f64>() / (equal.len() as f64 * total);
        for &point in equal {
            utilities[point] = shared - 1.0 / count as f64;
        }
        rank += equal.len();
    }
    utilities
}

fn refused(option: &'static str, expected: &'static str, found: String) -> StrategyError {
    StrategyError::Option { option, expected, found }
}

#[cfg(test)]
mod tests;
