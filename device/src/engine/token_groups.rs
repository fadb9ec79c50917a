//! Which patches the tokens that are left stand for, once blocks have merged some.

use super::panel::{PanelRow, panels};
use super::shared::Shared;
use super::sizes::Sizes;

/// Which patches the tokens of a batch stand for. An image has room for all its tokens.
#[derive(Debug)]
pub(super) struct TokenGroups {
    /// How many tokens of the dense model each token stands for.
    sizes: Vec<f32>,
    /// The natural logarithms of these, `panels(tokens)` for each image.
    pub log_sizes: Vec<PanelRow>,
    /// For each token of the dense model the one that stands for it.
    places: Vec<usize>,
}

/// [`TokenGroups`] for a step: only the thread that calls the team changes them.
#[derive(Clone, Copy)]
pub(super) struct SharedGroups<'a> {
    pub sizes: Shared<'a, f32>,
    pub log_sizes: Shared<'a, PanelRow>,
    pub places: Shared<'a, usize>,
}

impl TokenGroups {
    pub(super) fn new(sizes: &Sizes, max_batch: usize) -> Self {
        let tokens = max_batch * sizes.tokens;
        Self {
            sizes: vec![1.0; tokens],
            log_sizes: vec![PanelRow::ZERO; max_batch * panels(sizes.tokens)],
            places: vec![0; tokens],
        }
    }

    /// Every token stands for itself.
    pub(super) fn start(&mut self, sizes: &Sizes, batch: usize) {
        self.sizes[..batch * sizes.tokens].fill(1.0);
        self.log_sizes[..batch * panels(sizes.tokens)].fill(PanelRow::ZERO);
        for places in self.places.chunks_exact_mut(sizes.tokens).take(batch) {
            places.iter_mut().enumerate().for_each(|(token, place)| *place = token);
        }
    }

    pub(super) fn share(&mut self) -> SharedGroups<'_> {
        SharedGroups {
            sizes: Shared::new(&mut self.sizes),
            log_sizes: Shared::new(&mut self.log_sizes),
            places: Shared::new(&mut self.places),
        }
    }

    /// Copies the `tokens` that are left of each image to the places of all that they stand for.
    pub(super) fn copy_back(&self, sizes: &Sizes, batch: usize, tokens: usize, left: &[f32], out: &mut [f32]) {
        let width = sizes.embed_dim;
        let images = left.chunks_exact(tokens * width).zip(self.places.chunks_exact(sizes.tokens)).take(batch);
        for ((left, places), out) in images.zip(out.chunks_exact_mut(sizes.image_values())) {
            for (out, &place) in out.chunks_exact_mut(width).zip(places) {
                out.copy_from_slice(&left[place * width..(place + 1) * width]);
            }
        }
    }
}
