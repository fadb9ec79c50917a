//! The backward pass: from the image embeddings to the layers whose rows are structures.
//!
//! Gradients of weights are not formed here. A block hands over the gradient at its layers'
//! outputs together with the layers' inputs, and the caller takes from them what it needs.

use candle_core::{Tensor, Var};

use super::block::{Batch, BlockGradient, Trace};
use super::error::Result;
use super::model::CandleVit;

/// A forward pass that can be followed back.
pub struct Traced<'a> {
    model: &'a CandleVit,
    batch: Batch,
    blocks: Vec<Trace>,
    /// The rows after the last block.
    last: Tensor,
    /// The tokens that are pooled, tracked by candle's autograd.
    tokens: Var,
    pooled: Tensor,
}

impl CandleVit {
    /// The image embeddings of `pixels`, and what a backward pass needs.
    ///
    /// Where the embedding depends on the first tokens only (a class token), the last block
    /// computes nothing else after its attention: the gradient at the other tokens is zero there.
    ///
    /// # Errors
    /// As [`CandleVit::forward`].
    pub fn traced(&self, pixels: &Tensor) -> Result<Traced<'_>> {
        let (mut x, batch) = self.embed(pixels)?;
        let leading = self.pooling.leading_tokens();
        let rows = leading.map(|leading| leading_rows(batch, leading, self.device())).transpose()?;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (index, block) in self.blocks.iter().enumerate() {
            let rows = rows.as_ref().filter(|_| index + 1 == self.blocks.len());
            let (out, trace) = block.traced(&x, batch, self.rotary.as_ref(), rows)?;
            blocks.push(trace);
            x = out;
        }
        let normed = self.final_norm.as_ref().map_or_else(|| Ok(x.clone()), |norm| norm.forward(&x))?;
        let tokens = Var::from_tensor(&normed.reshape((batch.images, leading.unwrap_or(batch.tokens), ()))?)?;
        let pooled = self.pooling.forward(&tokens)?;
        Ok(Traced { model: self, batch, blocks, last: x, tokens, pooled })
    }
}

impl Traced<'_> {
    /// The image embeddings, `[images, embed_dim]`.
    #[must_use]
    pub fn pooled(&self) -> Tensor {
        self.pooled.detach()
    }

    /// Goes back from `gradient`, the gradient at the image embeddings, and hands the gradients
    /// of every block to `visit`, with the block's index, the last block first.
    ///
    /// # Errors
    /// If `gradient` has another shape than the embeddings, the device fails, or `visit` does.
    pub fn backward(&self, gradient: &Tensor, mut visit: impl FnMut(usize, BlockGradient) -> Result<()>) -> Result<()> {
        let rotary = self.model.rotary.as_ref();
        let mut gradient = self.backward_to_last(gradient)?;
        for (index, (block, trace)) in self.model.blocks.iter().zip(&self.blocks).enumerate().rev() {
            let (found, input) = block.backward(trace, &gradient, self.batch, rotary, index > 0)?;
            visit(index, found)?;
            if let Some(input) = input {
                gradient = input;
            }
        }
        Ok(())
    }

    /// The gradient at the rows after the last block.
    fn backward_to_last(&self, gradient: &Tensor) -> Result<Tensor> {
        let gradients = (&self.pooled * gradient)?.sum_all()?.backward()?;
        let at_tokens = match gradients.get(&self.tokens) {
            Some(gradient) => gradient.reshape(self.last.shape())?,
            None => self.last.zeros_like()?,
        };
        match &self.model.final_norm {
            Some(norm) => Ok(norm.backward(&self.last, &at_tokens, None)?),
            None => Ok(at_tokens),
        }
    }
}

/// The rows of the first `leading` tokens of every image.
fn leading_rows(batch: Batch, leading: usize, device: &candle_core::Device) -> Result<Tensor> {
    let rows: Vec<u32> = (0..batch.images)
        .flat_map(|image| (0..leading).map(move |token| (image * batch.tokens + token) as u32))
        .collect();
    Ok(Tensor::new(rows, device)?)
}
