//! A Vision Transformer run with candle.

use candle_core::{DType, Device, Tensor};
use headroom_device::model::{Corrections, Description, Weights};
use headroom_shared::KeptStructures;

use super::block::{Batch, Block};
use super::correction::{CandleCorrections, EndSizes};
use super::embedding::{Embedding, load_rotary};
use super::error::Result;
use super::load::Loader;
use super::operation::layer_norm::LayerNorm;
use super::operation::rotary::Rotary;
use super::pooling::{Head, Pooling};

/// A model with its weights on a device.
///
/// On the CPU in f32, an operation runs in the calling thread; work in parallel over images.
#[derive(Clone, Debug)]
pub struct CandleVit {
    pub(super) embedding: Embedding,
    pub(super) rotary: Option<Rotary>,
    pub(super) blocks: Vec<Block>,
    pub(super) final_norm: Option<LayerNorm>,
    pub(super) pooling: Pooling,
    pub(super) corrections: CandleCorrections,
    head: Option<Head>,
    heads: usize,
    head_dim: usize,
    neurons: usize,
    pub(super) tokens: usize,
    pub(super) prefix_tokens: usize,
    embed_dim: usize,
    device: Device,
    dtype: DType,
}

/// The outputs of a forward pass.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The tokens after the final norm, `[images, tokens, embed_dim]`.
    pub tokens: Tensor,
    /// The image embeddings, `[images, embed_dim]`.
    pub pooled: Tensor,
    /// `[images, classes]`, where the model has a classifier.
    pub logits: Option<Tensor>,
    /// The input of block 0 and the output of every block, `[images, tokens, embed_dim]` each, if they were asked for.
    pub hidden_states: Vec<Tensor>,
}

impl CandleVit {
    /// Puts the model on `device`, its weights as `dtype`.
    ///
    /// # Errors
    /// If the weights do not have a tensor or not its size, or the device fails.
    pub fn load(description: &Description, weights: &Weights, device: &Device, dtype: DType) -> Result<Self> {
        let loader = Loader { weights, device, dtype };
        let blocks = description.blocks.iter().map(|block| Block::load(&loader, description, block));
        let final_norm = description.final_norm.as_ref().map(|norm| loader.norm(norm, description.embed_dim));
        Ok(Self {
            embedding: Embedding::load(&loader, description)?,
            rotary: load_rotary(&loader, description)?,
            blocks: blocks.collect::<Result<_>>()?,
            final_norm: final_norm.transpose()?,
            pooling: Pooling::load(&loader, description)?,
            corrections: CandleCorrections::default(),
            head: Head::load(&loader, description)?,
            heads: description.heads,
            head_dim: description.head_dim,
            neurons: description.neurons,
            tokens: description.tokens(),
            prefix_tokens: description.prefix_tokens(),
            embed_dim: description.embed_dim,
            device: device.clone(),
            dtype,
        })
    }

    /// The same model, sharing its weights, with corrections instead of those that it had.
    ///
    /// # Errors
    /// If they are of another model, or the device fails.
    pub fn with_corrections(&self, corrections: &Corrections) -> Result<Self> {
        let inputs = [self.heads * self.head_dim, self.neurons];
        let sizes = EndSizes { blocks: self.depth(), inputs, embed_dim: self.embed_dim };
        let corrections = CandleCorrections::load(corrections, sizes, self.dtype, &self.device)?;
        Ok(Self { corrections, ..self.clone() })
    }

    /// The width of a token, and of an embedding.
    #[must_use]
    pub fn embed_dim(&self) -> usize {
        self.embed_dim
    }

    /// Where the weights are.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The number of blocks.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// Heads of a block.
    #[must_use]
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Dimensions of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Hidden neurons of a block.
    #[must_use]
    pub fn neurons(&self) -> usize {
        self.neurons
    }

    /// Tokens of an image.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Channels, height and width of the images that the model takes.
    #[must_use]
    pub fn image_shape(&self) -> [usize; 3] {
        self.embedding.image_shape()
    }

    /// Runs the dense model on normalised `pixels` `[images, channels, height, width]`.
    ///
    /// # Errors
    /// If `pixels` has another shape, or the device fails.
    pub fn forward(&self, pixels: &Tensor) -> Result<Forward> {
        self.run(pixels, false)
    }

    /// As [`Self::forward`], with the hidden states.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_with_hidden_states(&self, pixels: &Tensor) -> Result<Forward> {
        self.run(pixels, true)
    }

    /// Runs the sub-network of the structures that are kept. [`Self::sub_network`] selects them once for several batches.
    ///
    /// # Errors
    /// As [`Self::forward`], and if `kept` names what the model does not have.
    pub fn forward_kept(&self, pixels: &Tensor, kept: &dyn KeptStructures) -> Result<Forward> {
        self.sub_network(kept)?.forward(pixels)
    }

    fn run(&self, pixels: &Tensor, with_hidden_states: bool) -> Result<Forward> {
        let (mut x, batch) = self.embed(pixels)?;
        let by_image = |x: &Tensor| x.reshape((batch.images, batch.tokens, ()));
        let mut hidden_states = Vec::new();
        for block in &self.blocks {
            if with_hidden_states {
                hidden_states.push(by_image(&x)?);
            }
            x = block.forward(&x, batch, self.rotary.as_ref())?;
        }
        let last = by_image(&x)?;
        let forward = self.finish(&last, Ok)?;
        if with_hidden_states {
            hidden_states.push(last);
        }
        Ok(Forward { hidden_states, ..forward })
    }

    /// From the `last` tokens to the outputs; `spread` puts tokens to their places.
    pub(super) fn finish(
        &self,
        last: &Tensor,
        spread: impl FnOnce(Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Forward> {
        let tokens = self.final_norm.as_ref().map_or_else(|| Ok(last.clone()), |norm| norm.forward(last))?;
        let tokens = spread(tokens)?;
        let pooled = self.pooling.forward(&tokens)?;
        let logits = self.head.as_ref().map(|head| head.forward(&tokens, &pooled)).transpose()?;
        Ok(Forward { tokens, pooled, logits, hidden_states: Vec::new() })
    }

    /// The rows that enter block 0, `[images * tokens, embed_dim]`.
    pub(super) fn embed(&self, pixels: &Tensor) -> Result<(Tensor, Batch)> {
        let pixels = pixels.to_device(&self.device)?.to_dtype(self.dtype)?;
        let x = self.embedding.forward(&pixels)?;
        let (images, tokens, width) = x.dims3()?;
        Ok((x.reshape((images * tokens, width))?, Batch { images, tokens }))
    }
}
