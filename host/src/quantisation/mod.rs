//! Embeddings of sub-networks in eight-bit integers, with the engine that the device runs.
//!
//! Weights are rounded to nearest by [`headroom_device::integer::IntegerSource`], and activations while the model runs:
//! there is nothing to calibrate.

mod frames;

use std::sync::{Mutex, PoisonError};

use headroom_device::integer::{IntegerEngineError, IntegerOutput, PackedIntegerVit};
use headroom_shared::{IntegerModel, KeptStructures};
use rayon::prelude::*;

pub use frames::frames;

/// A set of frames and the integer model that embeds them.
pub struct IntegerEmbedder<'a> {
    model: IntegerModel<'a>,
    frames: &'a [u8],
    spare: Mutex<Vec<PackedIntegerVit<'a>>>,
}

impl<'a> IntegerEmbedder<'a> {
    /// `frames` holds whole ones of the model's input size ([`frames`]).
    #[must_use]
    pub fn new(model: IntegerModel<'a>, frames: &'a [u8]) -> Self {
        Self { model, frames, spare: Mutex::new(Vec::new()) }
    }

    /// The pooled embeddings of all frames, `[frames, embed_dim]`. The result does not depend on the number of threads.
    ///
    /// # Errors
    /// If the engine refuses the sub-network.
    pub fn embed<K: KeptStructures + Sync>(&self, kept: &K) -> Result<Vec<f32>, IntegerEngineError> {
        let (frame_bytes, embed_dim) = (self.model.sizes().frame_bytes(), self.model.sizes().embed_dim);
        let mut embeddings = vec![0.0; self.frames.len() / frame_bytes * embed_dim];
        let frames = self.frames.par_chunks_exact(frame_bytes);
        frames.zip(embeddings.par_chunks_exact_mut(embed_dim)).try_for_each(|(frame, embedding)| {
            let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut vit = spare.unwrap_or_else(|| PackedIntegerVit::new(self.model));
            let output = IntegerOutput { embedding: Some(embedding), ..IntegerOutput::default() };
            let result = vit.infer(frame, kept, output);
            self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(vit);
            result
        })?;
        Ok(embeddings)
    }
}
