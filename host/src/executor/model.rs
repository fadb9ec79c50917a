//! A Vision Transformer run with candle.

use candle_core::{DType, Device, Tensor};
use headroom_device::model::{Description, Weights};
use headroom_shared::KeptStructures;

use super::block::{Batch, Block};
use super::embedding::{Embedding, load_rotary};
use super::error::{ExecutorError, Result};
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
    head: Option<Head>,
    heads: usize,
    head_dim: usize,
    neurons: usize,
    tokens: usize,
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
            head: Head::load(&loader, description)?,
            heads: description.heads,
            head_dim: description.head_dim,
            neurons: description.neurons,
            tokens: description.tokens(),
            device: device.clone(),
            dtype,
        })
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
        self.run(pixels, None, false)
    }

    /// As [`Self::forward`], with the hidden states.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_with_hidden_states(&self, pixels: &Tensor) -> Result<Forward> {
        self.run(pixels, None, true)
    }

    /// Runs the sub-network of the structures that are kept.
    ///
    /// # Errors
    /// As [`Self::forward`], and if `kept` names what the model does not have.
    pub fn forward_kept(&self, pixels: &Tensor, kept: &dyn KeptStructures) -> Result<Forward> {
        self.run(pixels, Some(kept), false)
    }

    fn run(&self, pixels: &Tensor, kept: Option<&dyn KeptStructures>, with_hidden_states: bool) -> Result<Forward> {
        let (mut x, batch) = self.embed(pixels)?;
        let by_image = |x: &Tensor| x.reshape((batch.images, batch.tokens, ()));
        let mut hidden_states = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            if with_hidden_states {
                hidden_states.push(by_image(&x)?);
            }
            x = match kept {
                Some(kept) => self.run_kept(index, kept, &x, batch)?,
                None => block.forward(&x, batch, self.rotary.as_ref())?,
            };
        }
        let last = by_image(&x)?;
        let tokens = self.final_norm.as_ref().map_or_else(|| Ok(last.clone()), |norm| norm.forward(&last))?;
        if with_hidden_states {
            hidden_states.push(last);
        }
        let pooled = self.pooling.forward(&tokens)?;
        let logits = self.head.as_ref().map(|head| head.forward(&tokens, &pooled)).transpose()?;
        Ok(Forward { tokens, pooled, logits, hidden_states })
    }

    fn run_kept(&self, index: usize, kept: &dyn KeptStructures, x: &Tensor, batch: Batch) -> Result<Tensor> {
        let heads: Vec<usize> = (0..kept.heads(index)).map(|head| kept.head(index, head)).collect();
        let neurons = kept.neurons(index);
        let ascending = heads.is_sorted_by(|a, b| a < b) && heads.last().is_none_or(|&last| last < self.heads);
        if !ascending || neurons > self.neurons {
            let (dense_heads, dense_neurons) = (self.heads, self.neurons);
            return Err(ExecutorError::Kept { block: index, heads, dense_heads, neurons, dense_neurons });
        }
        let block = &self.blocks[index];
        let query_dims = kept.query_dims(index).unwrap_or(self.head_dim);
        let value_dims = kept.value_dims(index).unwrap_or(self.head_dim);
        let middle = match heads.len() * value_dims {
            0 => block.without_heads(x)?,
            _ => block.with_heads(&heads, query_dims, value_dims)?.attend(x, batch, self.rotary.as_ref())?,
        };
        match neurons {
            0 => Ok(block.without_neurons(&middle)?),
            _ => Ok(block.with_neurons(neurons)?.transform(&middle)?),
        }
    }

    /// The rows that enter block 0, `[images * tokens, embed_dim]`.
    pub(super) fn embed(&self, pixels: &Tensor) -> Result<(Tensor, Batch)> {
        let pixels = pixels.to_device(&self.device)?.to_dtype(self.dtype)?;
        let x = self.embedding.forward(&pixels)?;
        let (images, tokens, width) = x.dims3()?;
        Ok((x.reshape((images * tokens, width))?, Batch { images, tokens }))
    }
}
