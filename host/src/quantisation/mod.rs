//! Embeddings of sub-networks in eight-bit integers, with the engine that the device runs.
//!
//! Weights are rounded to nearest by [`headroom_device::integer::IntegerSource`], and activations while the model runs:
//! there is nothing to calibrate.

use std::sync::Mutex;

use headroom_device::integer::{IntegerEngineError, IntegerOutput, IntegerWorkspace, PackedIntegerVit};
use headroom_device::lock::lock;
use headroom_shared::{IntegerModel, KeptStructures};
use rayon::prelude::*;

/// A set of frames and the integer model that embeds them.
pub struct IntegerEmbedder<'a> {
    vit: PackedIntegerVit<'a>,
    frames: &'a [u8],
    spare: Mutex<Vec<IntegerWorkspace>>,
}

impl<'a> IntegerEmbedder<'a> {
    /// `frames` holds whole ones of the model's input size ([`headroom_device::integer::frames`]).
    #[must_use]
    pub fn new(model: IntegerModel<'a>, frames: &'a [u8]) -> Self {
        Self { vit: PackedIntegerVit::new(model), frames, spare: Mutex::new(Vec::new()) }
    }

    /// The pooled embeddings of all frames, `[frames, embed_dim]`. The result does not depend on the number of threads.
    ///
    /// # Errors
    /// If the engine refuses the sub-network.
    pub fn embed<K: KeptStructures + Sync>(&self, kept: &K) -> Result<Vec<f32>, IntegerEngineError> {
        let sizes = self.vit.model().sizes();
        let (frame_bytes, embed_dim) = (sizes.frame_bytes(), sizes.embed_dim);
        let mut embeddings = vec![0.0; self.frames.len() / frame_bytes * embed_dim];
        let frames = self.frames.par_chunks_exact(frame_bytes);
        frames.zip(embeddings.par_chunks_exact_mut(embed_dim)).try_for_each(|(frame, embedding)| {
            let spare = lock(&self.spare).pop();
            let mut workspace = spare.unwrap_or_else(|| self.vit.workspace());
            let output = IntegerOutput { embedding: Some(embedding), ..IntegerOutput::default() };
            let result = self.vit.infer(&mut workspace, frame, kept, output);
            lock(&self.spare).push(workspace);
            result
        })?;
        Ok(embeddings)
    }
}
