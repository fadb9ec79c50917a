//! A sub-network of a model: what it keeps is selected once, for all images that it then runs on.

use candle_core::Tensor;
use headroom_shared::KeptStructures;

use super::block::{Batch, Block};
use super::error::{ExecutorError, Result};
use super::model::{CandleVit, Forward};
use super::operation::token_merging::{Merge, TokenGroups};
use super::operation::widened;

/// A sub-network with its weights on the model's device. Neurons are views of the model's weights; heads and dimensions
/// are copies where not all are kept.
#[derive(Clone, Debug)]
pub struct CutVit<'a> {
    model: &'a CandleVit,
    blocks: Vec<CutBlock>,
}

/// A block with what it keeps.
#[derive(Clone, Debug)]
struct CutBlock {
    block: Block,
    has_heads: bool,
    has_neurons: bool,
    merged: usize,
}

impl CandleVit {
    /// The sub-network of the structures that are kept, with their token schedule and correction.
    ///
    /// # Errors
    /// If `kept` names what the model does not have, or the device fails.
    pub fn sub_network(&self, kept: &dyn KeptStructures) -> Result<CutVit<'_>> {
        let mut patches = self.tokens - self.prefix_tokens;
        let blocks = (0..self.depth()).map(|index| {
            let block = self.cut_block(index, kept)?;
            let (found, most) = (block.merged, patches / 2);
            if found > 0 && self.rotary.is_some() {
                return Err(ExecutorError::MergingWithRotary { block: index });
            }
            if found > most {
                return Err(ExecutorError::MergedTokens { block: index, most, found });
            }
            patches -= found;
            Ok(block)
        });
        Ok(CutVit { model: self, blocks: blocks.collect::<Result<_>>()? })
    }

    fn cut_block(&self, index: usize, kept: &dyn KeptStructures) -> Result<CutBlock> {
        let heads: Vec<usize> = (0..kept.heads(index)).map(|head| kept.head(index, head)).collect();
        let neurons = kept.neurons(index);
        let ascending = heads.is_sorted_by(|a, b| a < b) && heads.last().is_none_or(|&last| last < self.heads());
        if !ascending || neurons > self.neurons() {
            let (dense_heads, dense_neurons) = (self.heads(), self.neurons());
            return Err(ExecutorError::Kept { block: index, heads, dense_heads, neurons, dense_neurons });
        }
        let query_dims = kept.query_dims(index).unwrap_or(self.head_dim());
        let value_dims = kept.value_dims(index).unwrap_or(self.head_dim());
        let mut block = self.blocks[index].clone();
        if let Some(correction) = kept.correction() {
            let [projection, down] = self.corrections.ends(correction, index)?;
            block = block.with_ends(projection, down);
        }
        let (has_heads, has_neurons) = (heads.len() * value_dims > 0, neurons > 0);
        if has_heads {
            block = block.with_heads(&heads, query_dims, value_dims)?;
        }
        if has_neurons {
            block = block.with_neurons(neurons)?;
        }
        Ok(CutBlock { block, has_heads, has_neurons, merged: kept.merged_tokens(index) })
    }
}

impl CutVit<'_> {
    /// Runs it on normalised `pixels` `[images, channels, height, width]`. Merged tokens are copied back to the places of
    /// all that they stand for. Nothing waits for the device.
    ///
    /// # Errors
    /// If `pixels` has another shape, or the device fails.
    pub fn forward(&self, pixels: &Tensor) -> Result<Forward> {
        let (mut x, mut batch) = self.model.embed(pixels)?;
        let mut groups = None;
        for block in &self.blocks {
            (x, batch, groups) = self.run(block, &x, batch, groups)?;
        }
        let last = x.reshape((batch.images, batch.tokens, ()))?;
        self.model.finish(&last, |tokens| match &groups {
            Some(groups) => groups.copy_back(&tokens),
            None => Ok(tokens),
        })
    }

    fn run(
        &self,
        cut: &CutBlock,
        x: &Tensor,
        batch: Batch,
        groups: Option<TokenGroups>,
    ) -> Result<(Tensor, Batch, Option<TokenGroups>)> {
        let CutBlock { block, has_heads, has_neurons, merged } = cut;
        let transform = |middle: &Tensor| {
            if *has_neurons { block.transform(middle) } else { block.without_neurons(middle) }
        };
        let mut keys = None;
        let middle = if *has_heads {
            let log_sizes = groups.as_ref().map(TokenGroups::log_sizes).transpose()?;
            let (middle, found) = block.attend(x, batch, self.model.rotary.as_ref(), log_sizes.as_ref())?;
            keys = Some(found);
            middle
        } else {
            block.without_heads(x)?
        };
        if *merged == 0 {
            return Ok((transform(&middle)?, batch, groups));
        }
        let Batch { images, tokens } = batch;
        let dtype = widened(&middle.narrow(0, 0, 1)?)?.dtype();
        let groups = groups.map_or_else(|| TokenGroups::single(images, tokens, dtype, middle.device()), Ok)?;
        let merge = Merge { prefix: self.model.prefix_tokens, merged: *merged };
        let (left, groups) = groups.merge(&middle.reshape((images, tokens, ()))?, keys.as_ref(), merge)?;
        let batch = Batch { images, tokens: tokens - merged };
        let middle = left.reshape((images * batch.tokens, ()))?;
        Ok((transform(&middle)?, batch, Some(groups)))
    }
}
