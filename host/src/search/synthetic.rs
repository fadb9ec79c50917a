//! A model made of numbers, for the tests of the fit.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};

use headroom_shared::{KeptStructures, ModelShape};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::ranking::quanta::tests::shape;
use crate::ranking::{Arrangement, Factors, Quanta, Selection, Sparsities};
use crate::search::{Embedder, Problem};

const IMAGES: usize = 12;
const DIMENSIONS: usize = 6;

/// Every structure adds its own numbers to the embeddings. Those of later blocks
/// are larger, which the local scores do not tell.
pub(crate) struct Synthetic {
    shape: ModelShape,
    quanta: Quanta,
    sparsities: Sparsities,
    start: Factors,
}

/// Runs a [`Synthetic`] model and sets its flag after some forwards.
pub(crate) struct Runner<'a> {
    model: &'a Synthetic,
    /// What was run, in order; the dense model first.
    pub(crate) run: Vec<Selection>,
    interrupt: Option<(usize, &'a AtomicBool)>,
}

impl Synthetic {
    pub(crate) fn new() -> Self {
        let shape = ModelShape { floor_heads: 1, floor_neurons: 2, ..shape(3, 4, 40) };
        let falling: Vec<f64> = (0..40).map(|neuron| 2.0 - f64::from(neuron) / 40.0).collect();
        let quanta = Quanta::new(&shape, &vec![falling; 3], &vec![vec![1.0, 1.1, 0.9, 1.2]; 3]);
        Self {
            shape,
            quanta: quanta.expect("scores of the shape"),
            sparsities: "0.25/0.1,0.6/0.5".parse().expect("sparsities"),
            start: Factors::start(&shape),
        }
    }

    pub(crate) fn problem(&self) -> Problem<'_> {
        Problem {
            quanta: &self.quanta,
            arrangement: Arrangement::ByKind,
            sparsities: &self.sparsities,
            start: &self.start,
        }
    }

    pub(crate) fn runner(&self) -> Runner<'_> {
        Runner { model: self, run: Vec::new(), interrupt: None }
    }

    /// A runner that sets `flag` during its `forwards`-th run, counted from 1.
    pub(crate) fn interrupted<'a>(&'a self, forwards: usize, flag: &'a AtomicBool) -> Runner<'a> {
        Runner { model: self, run: Vec::new(), interrupt: Some((forwards, flag)) }
    }

    fn add(&self, sum: &mut [f32], block: usize, structure: usize) {
        let mut random = ChaCha8Rng::seed_from_u64((block * 1000 + structure) as u64);
        let weight = [0.3, 1.0, 3.0][block];
        for value in sum {
            let noise: f32 = StandardNormal.sample(&mut random);
            *value += weight * noise;
        }
    }
}

impl Embedder for Runner<'_> {
    type Error = Infallible;

    fn dimensions(&self) -> usize {
        DIMENSIONS
    }

    fn embed(&mut self, kept: &Selection) -> Result<Option<Vec<f32>>, Infallible> {
        self.run.push(kept.clone());
        if let Some((forwards, flag)) = self.interrupt
            && forwards == self.run.len()
        {
            flag.store(true, Ordering::Relaxed);
        }
        let mut sum = vec![0.0; IMAGES * DIMENSIONS];
        for block in 0..usize::from(self.model.shape.blocks) {
            for neuron in 0..kept.neurons(block) {
                self.model.add(&mut sum, block, neuron);
            }
            for index in 0..kept.heads(block) {
                self.model.add(&mut sum, block, 500 + kept.head(block, index));
            }
        }
        Ok(Some(sum))
    }
}
