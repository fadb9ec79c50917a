//! The engine on weights in place and scratch memory of the caller.

use headroom_shared::KeptStructures;
use headroom_shared::integer_model::IntegerModel;

use super::arena::{self, ArenaSizes, Buffers, FEW_TOKENS};
use super::error::IntegerEngineError;
use super::forward::{self, InPlace};

/// An elastic Vision Transformer on int8 weights that are read where they lie.
#[derive(Debug)]
pub struct IntegerVit<'a> {
    model: IntegerModel<'a>,
    sizes: ArenaSizes,
    arena: &'a mut [u8],
}

/// Where an inference writes what it computes; what is `None` is not written.
#[derive(Debug, Default)]
pub struct IntegerOutput<'o> {
    /// The image embedding, `embed_dim` values.
    pub embedding: Option<&'o mut [f32]>,
    /// `classes` values. Of two classifiers, their mean.
    pub logits: Option<&'o mut [f32]>,
    /// The tokens after the final norm (after the last block, where there is none), `[tokens, embed_dim]`. Without
    /// them, the last block computes only the tokens that embedding and logits need.
    pub tokens: Option<&'o mut [f32]>,
}

impl<'a> IntegerVit<'a> {
    /// An engine with `arena` as its scratch memory, of at least
    /// [`arena_bytes`](super::arena_bytes) of the model's [`ArenaSizes::of_model`] with [`FEW_TOKENS`].
    ///
    /// # Errors
    /// [`IntegerEngineError::Arena`] if it is smaller.
    pub fn new(model: IntegerModel<'a>, arena: &'a mut [u8]) -> Result<Self, IntegerEngineError> {
        let sizes = ArenaSizes::of_model(&model, FEW_TOKENS);
        arena::check(arena, &sizes)?;
        Ok(Self { model, sizes, arena })
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &IntegerModel<'a> {
        &self.model
    }

    /// Runs the structures in `kept` on a frame: RGB bytes, row by row, of the model's input size. The bits of the
    /// result are the same on every processor.
    ///
    /// # Errors
    /// If the frame, the structures or the outputs do not fit the model. Nothing was computed then.
    pub fn infer(
        &mut self,
        frame: &[u8],
        kept: &impl KeptStructures,
        output: IntegerOutput<'_>,
    ) -> Result<(), IntegerEngineError> {
        forward::check(&self.model, frame, kept, &output)?;
        let buffers = Buffers::cut(self.arena, &self.sizes);
        forward::run(&InPlace, &self.model, buffers, self.sizes.together, frame, kept, output);
        Ok(())
    }
}
