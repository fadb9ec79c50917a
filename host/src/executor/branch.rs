//! The two branches of a block, one at a time: what compensation is fitted on.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

use super::block::Batch;
use super::error::ExecutorError;
use super::linear::Linear;
use super::model::CandleVit;
use super::operation::product::{Start, Stored, product};

/// A branch of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// Ends in the projection of the heads.
    Attention,
    /// Ends in the down layer of the neurons.
    Mlp,
}

impl Branch {
    /// In the order in which a block runs them.
    pub const ALL: [Self; 2] = [Self::Attention, Self::Mlp];
}

/// What a block keeps: the first heads, the first value and query dimensions of each, the first neurons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub heads: usize,
    pub value_dims: usize,
    pub query_dims: usize,
    pub neurons: usize,
}

/// The inputs of the last layer of a branch that a [`Kept`] has, in the order of all inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptInputs {
    /// So many from the start.
    First(usize),
    /// These, ascending.
    These(Vec<u32>),
}

impl KeptInputs {
    /// Their numbers.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let (first, these) = match self {
            Self::First(count) => (*count, &[][..]),
            Self::These(these) => (0, these.as_slice()),
        };
        (0..first).chain(these.iter().map(|&index| index as usize))
    }

    /// Those rows or columns of a matrix.
    ///
    /// # Errors
    /// If the matrix has fewer, or the device fails.
    pub fn select(&self, matrix: &Tensor, axis: usize) -> Result<Tensor> {
        match self {
            Self::First(count) => matrix.narrow(axis, 0, *count),
            Self::These(these) => matrix.index_select(&Tensor::new(these.as_slice(), matrix.device())?, axis),
        }
    }
}

/// The tokens of some images on their way through the model, `[images * tokens, embed_dim]`.
#[derive(Clone, Debug)]
pub struct Stream {
    pub rows: Tensor,
    batch: Batch,
}

impl CandleVit {
    /// What enters block 0 for `pixels` `[images, channels, height, width]`.
    ///
    /// # Errors
    /// If `pixels` has another shape, or the device fails.
    pub fn stream(&self, pixels: &Tensor) -> super::error::Result<Stream> {
        let (rows, batch) = self.embed(pixels)?;
        Ok(Stream { rows, batch })
    }

    /// [`Self::stream`] of `pixels` `[images, channels, height, width]` in batches of about so many tokens.
    ///
    /// # Errors
    /// If the pixels are not whole images, or the device fails.
    pub fn streams(&self, pixels: &[f32], tokens_together: usize) -> super::error::Result<Vec<Stream>> {
        let [channels, height, width] = self.image_shape();
        let pixels_per_image = channels * height * width;
        if pixels.is_empty() || !pixels.len().is_multiple_of(pixels_per_image) {
            return Err(ExecutorError::WholeImages { pixels_per_image, found: pixels.len() });
        }
        let together = (tokens_together / self.tokens()).max(1);
        let stream = |pixels: &[f32]| {
            let shape = (pixels.len() / pixels_per_image, channels, height, width);
            self.stream(&Tensor::from_slice(pixels, shape, &Device::Cpu)?)
        };
        pixels.par_chunks(together * pixels_per_image).map(stream).collect()
    }

    /// Everything that a block has.
    #[must_use]
    pub fn whole(&self) -> Kept {
        let dims = self.head_dim();
        Kept { heads: self.heads(), value_dims: dims, query_dims: dims, neurons: self.neurons() }
    }

    /// The queries and the keys of all heads, `[rows, heads * head_dim]` each, turned by positions where those are
    /// rotary.
    ///
    /// # Errors
    /// If the device fails.
    pub fn queries_and_keys(&self, block: usize, stream: &Stream) -> Result<(Tensor, Tensor)> {
        let packed = self.blocks[block].pack(&stream.rows, stream.batch, self.rotary.as_ref())?;
        let width = self.heads() * self.head_dim();
        Ok((packed.narrow(1, 0, width)?.contiguous()?, packed.narrow(1, width, width)?.contiguous()?))
    }

    /// The inputs of the last layer of a branch that are left.
    #[must_use]
    pub fn kept_inputs(&self, branch: Branch, kept: Kept) -> KeptInputs {
        let width = self.head_dim();
        match branch {
            Branch::Mlp => KeptInputs::First(kept.neurons),
            Branch::Attention if kept.value_dims == width => KeptInputs::First(kept.heads * width),
            Branch::Attention => {
                let starts = (0..kept.heads).map(|head| head * width);
                KeptInputs::These(starts.flat_map(|start| start..start + kept.value_dims).map(|i| i as u32).collect())
            }
        }
    }

    /// The inputs of the last layer of a branch, `[rows, inputs]`, that are left ([`Self::kept_inputs`]). `None` where
    /// nothing is.
    ///
    /// # Errors
    /// If the device fails.
    pub fn branch_inputs(&self, block: usize, branch: Branch, kept: Kept, stream: &Stream) -> Result<Option<Tensor>> {
        let block = &self.blocks[block];
        let inputs = self.kept_inputs(branch, kept);
        let Kept { heads, value_dims, query_dims, neurons } = kept;
        match branch {
            Branch::Attention if heads == 0 || value_dims == 0 => Ok(None),
            Branch::Mlp if neurons == 0 => Ok(None),
            Branch::Attention => {
                let mut kept = block.kept(&(0..heads).collect::<Vec<_>>(), 0)?;
                if query_dims < self.head_dim() {
                    kept = kept.with_query_dims(query_dims)?;
                }
                let context = kept.context(&stream.rows, stream.batch, self.rotary.as_ref())?;
                match inputs {
                    KeptInputs::First(_) => Ok(Some(context)),
                    these @ KeptInputs::These(_) => these.select(&context, 1).map(Some),
                }
            }
            Branch::Mlp => block.kept(&[], neurons)?.activations(&stream.rows).map(Some),
        }
    }

    /// The last layer of a branch, with its layer scale multiplied in: the weight `[inputs, embed_dim]` and the bias.
    ///
    /// # Errors
    /// If the device fails.
    pub fn branch_end(&self, block: usize, branch: Branch) -> Result<(Tensor, Tensor)> {
        let Linear { weight, bias, .. } = self.blocks[block].end(branch);
        let bias = match bias {
            Some(bias) => bias.clone(),
            None => Tensor::zeros(weight.dim(1)?, weight.dtype(), weight.device())?,
        };
        Ok((weight.clone(), bias))
    }
}

impl Stream {
    /// Adds `inputs` times `weight` `[inputs, embed_dim]`, and `bias`.
    ///
    /// # Errors
    /// If shapes disagree, or the device fails.
    pub fn advance(&mut self, inputs: Option<&Tensor>, weight: &Tensor, bias: &Tensor) -> Result<()> {
        self.rows = match inputs {
            None => self.rows.broadcast_add(bias)?,
            Some(inputs) => {
                product(Start { bias: Some(bias), matrix: Some(&self.rows) }, inputs, weight, Stored::Straight)?
            }
        };
        Ok(())
    }
}
