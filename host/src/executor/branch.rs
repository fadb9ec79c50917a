//! The two branches of a block, one at a time: what compensation is fitted on.

use candle_core::{DType, Result, Tensor};

use super::block::Batch;
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

    /// The inputs of the last layer of a branch, `[rows, inputs]`, when the first `heads` heads or the first `neurons`
    /// neurons are kept. `None` where nothing is.
    ///
    /// # Errors
    /// If the device fails.
    pub fn branch_inputs(
        &self,
        block: usize,
        branch: Branch,
        (heads, neurons): (usize, usize),
        stream: &Stream,
    ) -> Result<Option<Tensor>> {
        let block = &self.blocks[block];
        match branch {
            Branch::Attention if heads == 0 => Ok(None),
            Branch::Mlp if neurons == 0 => Ok(None),
            Branch::Attention => {
                let kept = block.kept(&(0..heads).collect::<Vec<_>>(), 0)?;
                kept.context(&stream.rows, stream.batch, self.rotary.as_ref()).map(Some)
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
    /// Adds `inputs` times the first rows of `weight` `[inputs, embed_dim]`, and `bias`.
    ///
    /// # Errors
    /// If shapes disagree, or the device fails.
    pub fn advance(&mut self, inputs: Option<&Tensor>, weight: &Tensor, bias: &Tensor) -> Result<()> {
        self.rows = match inputs {
            None => self.rows.broadcast_add(bias)?,
            Some(inputs) => {
                let weight = weight.narrow(0, 0, inputs.dim(1)?)?;
                product(Start { bias: Some(bias), matrix: Some(&self.rows) }, inputs, &weight, Stored::Straight)?
            }
        };
        Ok(())
    }

    /// The rows as plain values.
    ///
    /// # Errors
    /// If the device fails.
    pub fn values(&self) -> Result<Vec<f32>> {
        self.rows.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
    }
}
