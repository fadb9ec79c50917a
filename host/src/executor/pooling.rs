//! From the last tokens to the image embedding, and on to the classes.

use candle_core::{D, Result, Tensor};
use headroom_device::model::Description;
use headroom_device::model::description::{self, Activation};

use super::error::Result as ExecutorResult;
use super::linear::Linear;
use super::load::Loader;
use super::operation::activation::activate;
use super::operation::layer_norm::LayerNorm;
use super::operation::widened;

/// The pooling of a model, with its weights.
#[derive(Clone, Debug)]
pub(super) enum Pooling {
    Class,
    ClassThenNorm(LayerNorm),
    ClassDenseTanh(Linear),
    MeanClassDistillation,
    MeanPatches { first: usize },
    MeanPatchesThenNorm { first: usize, norm: LayerNorm },
    Attention(Box<AttentionPooling>),
}

/// A learned query that attends to all tokens, and an MLP behind it.
#[derive(Clone, Debug)]
pub(super) struct AttentionPooling {
    /// The query of the probe, `[heads, 1, head_dim]`: it depends on no image.
    query: Tensor,
    heads: usize,
    key: Linear,
    value: Linear,
    out: Linear,
    norm: LayerNorm,
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl Pooling {
    pub fn load(loader: &Loader, description: &Description) -> ExecutorResult<Self> {
        let width = description.embed_dim;
        let first = description.prefix_tokens();
        Ok(match &description.pooling {
            description::Pooling::Class => Self::Class,
            description::Pooling::ClassThenNorm { norm } => Self::ClassThenNorm(loader.norm(norm, width)?),
            description::Pooling::ClassDenseTanh { dense } => Self::ClassDenseTanh(loader.linear(dense, width, width)?),
            description::Pooling::MeanClassDistillation => Self::MeanClassDistillation,
            description::Pooling::MeanPatches => Self::MeanPatches { first },
            description::Pooling::MeanPatchesThenNorm { norm } => {
                Self::MeanPatchesThenNorm { first, norm: loader.norm(norm, width)? }
            }
            description::Pooling::Attention { probe, heads, query, key, value, out, norm, up, down, activation } => {
                let neurons = loader.weights.values(&up.weight)?.len() / width;
                let query = loader.linear(query, width, width)?.forward(&loader.tensor(probe, &[1, width])?)?;
                Self::Attention(Box::new(AttentionPooling {
                    query: query.reshape((*heads, 1, width / heads))?,
                    heads: *heads,
                    key: loader.linear(key, width, width)?,
                    value: loader.linear(value, width, width)?,
                    out: loader.linear(out, width, width)?,
                    norm: loader.norm(norm, width)?,
                    up: loader.linear(up, width, neurons)?,
                    down: loader.linear(down, neurons, width)?,
                    activation: *activation,
                }))
            }
        })
    }

    /// How many of the first tokens decide the embedding; `None` if all do.
    pub fn leading_tokens(&self) -> Option<usize> {
        match self {
            Self::Class | Self::ClassThenNorm(_) | Self::ClassDenseTanh(_) => Some(1),
            Self::MeanClassDistillation => Some(2),
            Self::MeanPatches { .. } | Self::MeanPatchesThenNorm { .. } | Self::Attention(_) => None,
        }
    }

    /// `[images, embed_dim]` of `tokens` `[images, tokens, embed_dim]`.
    pub fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let token = |index: usize| tokens.narrow(1, index, 1)?.squeeze(1)?.contiguous();
        let patch_mean = |first: usize| mean_from(tokens, first);
        match self {
            Self::Class => token(0),
            Self::ClassThenNorm(norm) => norm.forward(&token(0)?),
            Self::ClassDenseTanh(dense) => dense.forward(&token(0)?)?.tanh(),
            Self::MeanClassDistillation => (token(0)? + token(1)?)? * 0.5,
            Self::MeanPatches { first } => patch_mean(*first),
            Self::MeanPatchesThenNorm { first, norm } => norm.forward(&patch_mean(*first)?),
            Self::Attention(attention) => attention.forward(tokens),
        }
    }
}

impl AttentionPooling {
    fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let (images, count, width) = tokens.dims3()?;
        let head_dim = width / self.heads;
        let rows = tokens.reshape((images * count, width))?;
        let split = |linear: &Linear| {
            linear.forward(&rows)?.reshape((images, count, self.heads, head_dim))?.transpose(1, 2)?.contiguous()
        };
        let (key, value) = (split(&self.key)?, split(&self.value)?);
        // One query for all images: a row of scores is a sum over head_dim.
        let scores = widened(&key.broadcast_mul(&self.query)?)?.sum(D::Minus1)?;
        let scores = (scores * (1.0 / (head_dim as f64).sqrt()))?;
        let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
        let probabilities = powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?;
        let context = widened(&value)?.broadcast_mul(&probabilities.unsqueeze(D::Minus1)?)?.sum(2)?;
        let context = context.to_dtype(tokens.dtype())?.reshape((images, width))?;
        let attended = self.out.forward(&context)?;
        let hidden = activate(self.activation, &self.up.forward(&self.norm.forward(&attended)?)?)?;
        self.down.forward_onto(&attended, &hidden)
    }
}

/// The mean of all tokens from `first` on, summed in f32 or wider.
fn mean_from(tokens: &Tensor, first: usize) -> Result<Tensor> {
    let patches = tokens.narrow(1, first, tokens.dim(1)? - first)?;
    widened(&patches)?.mean(1)?.to_dtype(tokens.dtype())
}

/// The classifier of a model, with its weights.
#[derive(Clone, Debug)]
pub(super) enum Head {
    Linear(Linear),
    ClassAndPatchMean { first: usize, linear: Linear },
    AverageOfTwo { class: Linear, distillation: Linear },
}

impl Head {
    pub fn load(loader: &Loader, description: &Description) -> ExecutorResult<Option<Self>> {
        let Some(head) = &description.head else { return Ok(None) };
        let load = |linear: &description::Linear, inputs: usize| {
            let outputs = loader.weights.values(&linear.weight)?.len() / inputs;
            loader.linear(linear, inputs, outputs)
        };
        let width = description.embed_dim;
        Ok(Some(match head {
            description::Head::Linear { linear } => Self::Linear(load(linear, width)?),
            description::Head::ClassAndPatchMean { linear } => {
                Self::ClassAndPatchMean { first: description.prefix_tokens(), linear: load(linear, 2 * width)? }
            }
            description::Head::AverageOfTwo { class, distillation } => {
                Self::AverageOfTwo { class: load(class, width)?, distillation: load(distillation, width)? }
            }
        }))
    }

    /// `[images, classes]`.
    pub fn forward(&self, tokens: &Tensor, pooled: &Tensor) -> Result<Tensor> {
        let token = |index: usize| tokens.narrow(1, index, 1)?.squeeze(1)?.contiguous();
        match self {
            Self::Linear(linear) => linear.forward(pooled),
            Self::ClassAndPatchMean { first, linear } => {
                let patches = mean_from(tokens, *first)?;
                linear.forward(&Tensor::cat(&[token(0)?, patches], 1)?)
            }
            Self::AverageOfTwo { class, distillation } => {
                (class.forward(&token(0)?)? + distillation.forward(&token(1)?)?)? * 0.5
            }
        }
    }
}
