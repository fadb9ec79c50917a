//! The seam to the model.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::ranking::Selection;

/// A model that embeds the calibration images while it keeps only a part of itself.
///
/// The weights have their neurons sorted by falling local importance
/// ([`crate::ranking::Quanta::neuron_orders`]) and their heads as they were.
pub trait Embedder {
    /// Why the model cannot run.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Numbers in one embedding.
    fn dimensions(&self) -> usize;

    /// The embeddings of all calibration images, always in the same order:
    /// `[images, dimensions]`, row by row. `None` if the embedder was interrupted
    /// on the way; an embedder that takes long should look.
    ///
    /// # Errors
    /// If the model cannot run.
    fn embed(&mut self, kept: &Selection) -> Result<Option<Vec<f32>>, Self::Error>;

    /// As [`Self::embed`], of all that one point of the search needs, in order: one after the other, with a look at
    /// `interrupt` before each. An embedder that can have several in flight begins them all before it waits for the
    /// first.
    ///
    /// # Errors
    /// If the model cannot run.
    fn embed_all(&mut self, kept: &[Selection], interrupt: &AtomicBool) -> Result<Option<Vec<Vec<f32>>>, Self::Error> {
        let embed = |kept| if interrupt.load(Ordering::Relaxed) { Ok(None) } else { self.embed(kept) };
        kept.iter().map(embed).collect()
    }
}
