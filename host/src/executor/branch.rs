//! The two branches of a block, one at a time: what compensation is fitted on.

use candle_core::{Result, Tensor};

use super::batches::each;
use super::block::{Batch, Block};
use super::error::ExecutorError;
use super::linear::Linear;
use super::model::CandleVit;
use super::operation::product::{Start, Stored, product, shifted};
use super::operation::rotary::Rotary;
use super::upload::Uploaded;

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
            // A GPU refuses to copy nothing.
            Self::These(these) if these.is_empty() => matrix.narrow(axis, 0, 0),
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

/// A branch of a block, cut down to what is kept.
pub struct CutBranch<'a> {
    branch: Branch,
    /// `None` where nothing is kept.
    block: Option<Block>,
    rotary: Option<&'a Rotary>,
    /// The inputs of the branch's last layer that are left.
    pub kept: KeptInputs,
}

impl CutBranch<'_> {
    /// The inputs of the branch's last layer that are left, `[rows, inputs]`; `None` where nothing is.
    ///
    /// # Errors
    /// If the device fails.
    pub fn inputs(&self, stream: &Stream) -> Result<Option<Tensor>> {
        let Some(block) = &self.block else { return Ok(None) };
        let inputs = match self.branch {
            Branch::Attention => block.context(&stream.rows, stream.batch, self.rotary),
            Branch::Mlp => block.activations(&stream.rows),
        };
        inputs.map(Some)
    }
}

impl CandleVit {
    /// The images that `pixels` are.
    ///
    /// # Errors
    /// If there is none, or they are not whole.
    pub fn images_in(&self, pixels: &[f32]) -> super::error::Result<usize> {
        let pixels_per_image = self.image_shape().iter().product();
        if pixels.is_empty() || !pixels.len().is_multiple_of(pixels_per_image) {
            return Err(ExecutorError::WholeImages { pixels_per_image, found: pixels.len() });
        }
        Ok(pixels.len() / pixels_per_image)
    }

    /// What enters block 0 for `pixels` `[images, channels, height, width]`, in batches of about so many tokens.
    ///
    /// # Errors
    /// If the pixels are not whole images, or the device fails.
    pub fn streams(&self, pixels: &[f32], tokens_together: usize) -> super::error::Result<Vec<Stream>> {
        let pixels_per_image = pixels.len() / self.images_in(pixels)?;
        let together = (tokens_together / self.tokens()).max(1);
        let stream = |pixels: &[f32]| {
            let (rows, batch) = self.embed(&Uploaded::to_device_of(self, pixels)?.tensor)?;
            Ok(Stream { rows, batch })
        };
        each(self.device(), pixels.chunks(together * pixels_per_image).collect::<Vec<_>>(), stream)
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

    /// A branch of a block with only what is kept.
    ///
    /// # Errors
    /// If the device fails.
    pub fn cut(&self, block: usize, branch: Branch, kept: Kept) -> Result<CutBranch<'_>> {
        let Kept { heads, value_dims, query_dims, neurons } = kept;
        let whole = &self.blocks[block];
        let block = match branch {
            Branch::Attention if heads == 0 || value_dims == 0 => None,
            Branch::Mlp if neurons == 0 => None,
            Branch::Attention => Some(whole.with_heads(&(0..heads).collect::<Vec<_>>(), query_dims, value_dims)?),
            Branch::Mlp => Some(whole.with_neurons(neurons)?),
        };
        let width = self.head_dim();
        let inputs = match branch {
            Branch::Mlp => KeptInputs::First(neurons),
            Branch::Attention if value_dims == width => KeptInputs::First(heads * width),
            Branch::Attention => {
                let starts = (0..heads).map(|head| head * width);
                KeptInputs::These(starts.flat_map(|start| start..start + value_dims).map(|i| i as u32).collect())
            }
        };
        Ok(CutBranch { branch, block, rotary: self.rotary.as_ref(), kept: inputs })
    }

    /// Runs a whole branch of a block on every stream, and tells what `see` makes of the inputs of its last layer.
    ///
    /// # Errors
    /// If `see` or the device fails.
    pub fn advance<T: Send>(
        &self,
        block: usize,
        branch: Branch,
        streams: &mut [Stream],
        see: impl Fn(Tensor) -> T + Sync,
    ) -> Result<Vec<T>> {
        let whole = self.cut(block, branch, self.whole())?;
        let (weight, bias) = self.branch_end(block, branch)?;
        let run = |stream: &mut Stream| -> Result<Option<T>> {
            let inputs = whole.inputs(stream)?;
            stream.add(inputs.as_ref(), &weight)?;
            stream.shift(&bias)?;
            Ok(inputs.map(&see))
        };
        let seen: Vec<Option<T>> = each(self.device(), streams, run)?;
        Ok(seen.into_iter().flatten().collect())
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
    /// Adds `inputs` times `weight` `[inputs, embed_dim]`.
    ///
    /// # Errors
    /// If shapes disagree, or the device fails.
    pub fn add(&mut self, inputs: Option<&Tensor>, weight: &Tensor) -> Result<()> {
        if let Some(inputs) = inputs {
            self.rows = product(Start { bias: None, matrix: Some(&self.rows) }, inputs, weight, Stored::Straight)?;
        }
        Ok(())
    }

    /// Adds `bias` `[embed_dim]` to every token.
    ///
    /// # Errors
    /// If shapes disagree, or the device fails.
    pub fn shift(&mut self, bias: &Tensor) -> Result<()> {
        self.rows = shifted(&self.rows, bias)?;
        Ok(())
    }
}
