//! One set of matrices that makes up, at every rung, for what pruning removes.
//!
//! The inputs that a rung keeps predict part of what the removed inputs of the
//! last layer of a branch would have given: the projection of the heads, and the
//! down layer of the neurons. Block by block, every rung `r` of some chosen ones
//! carries its own tokens `x_r`, pruned and corrected so far, beside the dense
//! ones `x`. With its inputs `a_r`, some of all, the dense output `y` of the branch and the share `g` of the error
//! so far that this layer is to repair, one matrix `W` for all of them minimises
//!
//! ```text
//! sum_r w_r E |W a_r + b_r - t_r|^2 + damping |W - W_0|^2,    t_r = y + g (x - x_r)
//! ```
//!
//! whose solution needs the second moments of inputs and targets only. Every
//! rung of the ladder then gets biases of its own, `b_r = E t_r - W E a_r`,
//! block by block in the same way. Nothing is trained and no label is used.
//!
//! | mode | matrices | error feedback |
//! |---|---|---|
//! | [`Mode::Mean`] | the original ones; biases only | in the means |
//! | [`Mode::Shared`] | one of each layer, fitted on dense tokens | none in `W` |
//! | [`Mode::Sequential`] | one of each layer | yes |
//! | [`Mode::PerRung`] | one of each layer for each chosen rung | yes |
//!
//! Limits: the chosen rungs' tokens are kept in memory, four bytes for each
//! value; a matrix serves rungs far below the chosen ones badly.

mod error;
mod moments;
mod solve;

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Device, Tensor};
use headroom_device::model::corrections::{BlockCorrection, Correction, CorrectionGroup, Corrections};
use headroom_device::model::weights::Tensor as PlainTensor;
use headroom_shared::SubNetwork;
use rayon::prelude::*;

use crate::executor::{Branch, CandleVit, Kept, Stream};

pub use error::CompensationError;
use moments::Moments;

/// Tokens that one product holds together.
const TOKENS_TOGETHER: usize = 1024;

/// How what pruning removes is made up for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Not at all.
    None,
    /// The means of what is removed, in the biases.
    Mean,
    /// One matrix for all rungs, fitted on the dense model's tokens.
    Shared,
    /// One matrix for all rungs, fitted on what each rung really sees.
    #[default]
    Sequential,
    /// A matrix for each of a few rungs; the bundle grows by all of them.
    PerRung,
}

/// What the ridge toward the original matrix is measured in: part of the second moments of the inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Damping {
    /// Their mean.
    #[default]
    Mean,
    /// The largest: for models with a few outlying neurons (DINOv3).
    Max,
    /// The 90th percentile.
    Percentile,
}

/// How [`fit`] runs.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    pub mode: Mode,
    /// `g`, 0 to 1: how much of the error so far a layer is to repair.
    pub feedback: f64,
    pub damping: Damping,
    /// Set it, from anywhere, to stop.
    pub interrupt: &'a AtomicBool,
}

/// The ridge is this part of [`Damping`]'s figure: enough for inputs that hardly vary, too little to be felt by others.
const RIDGE: f64 = 1e-3;

/// Fits corrections for all `rungs` but the first, the dense one, on `pixels` `[images, 3, height, width]`, which are
/// normalised. The matrices are fitted on `chosen` ones of the rungs. `model` has the permuted weights. Empty with
/// [`Mode::None`].
///
/// The result does not depend on the number of threads. `progress` is called with the layers done.
///
/// # Errors
/// If the pixels are not whole images, the model fails, the equations have no solution, or `options.interrupt` is set.
pub fn fit(
    model: &CandleVit,
    rungs: &[SubNetwork],
    chosen: &[usize],
    pixels: &[f32],
    options: Options<'_>,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Corrections, CompensationError> {
    let all: Vec<usize> = (1..rungs.len()).collect();
    let groups: Vec<(Vec<usize>, Vec<usize>)> = match options.mode {
        Mode::None => return Ok(Corrections::default()),
        // Every rung goes to the nearest of the chosen ones.
        Mode::PerRung => chosen
            .iter()
            .map(|&one| {
                let nearest = |rung: &usize| chosen.iter().min_by_key(|other| other.abs_diff(*rung)) == Some(&one);
                (vec![one], all.iter().copied().filter(nearest).collect())
            })
            .collect(),
        Mode::Mean | Mode::Shared | Mode::Sequential => vec![(chosen.to_vec(), all)],
    };
    let start = model.streams(pixels, TOKENS_TOGETHER)?;
    let mut fit = Fit { model, sub_networks: rungs, start, options, progress, done: 0 };
    let groups = groups.into_iter().filter(|(_, rungs)| !rungs.is_empty());
    let groups = groups.map(|(chosen, rungs)| fit.group(&chosen, rungs)).collect::<Result<_, _>>()?;
    Ok(Corrections { groups })
}

/// Layers that [`fit`] reports as done in the end.
#[must_use]
pub fn layers(mode: Mode, depth: usize, rungs: usize, chosen: usize) -> usize {
    let fits = match mode {
        Mode::None => return 0,
        Mode::PerRung => chosen,
        Mode::Mean | Mode::Shared | Mode::Sequential => 1,
    };
    2 * depth * (fits + rungs.saturating_sub(1))
}

/// A layer with the matrix of a group and what every rung's biases depend on.
struct Layer {
    block: usize,
    branch: Branch,
    /// `[inputs, embed_dim]`.
    weight: Tensor,
    /// Means of the dense tokens before the branch and of the branch's dense output.
    dense_tokens: Vec<f64>,
    dense_output: Vec<f64>,
}

struct Fit<'a> {
    model: &'a CandleVit,
    sub_networks: &'a [SubNetwork],
    /// What enters block 0.
    start: Vec<Stream>,
    options: Options<'a>,
    progress: &'a (dyn Fn(usize) + Sync),
    done: usize,
}

impl Fit<'_> {
    /// The matrices fitted on `chosen`, and the biases of `rungs` with them.
    fn group(&mut self, chosen: &[usize], rungs: Vec<usize>) -> Result<CorrectionGroup, CompensationError> {
        let layers = self.layers(chosen)?;
        let biases = rungs.iter().map(|&rung| self.biases(&layers, rung)).collect::<Result<Vec<_>, _>>()?;
        let correction = |layer: usize| -> Result<Correction, CompensationError> {
            let weight = layers[layer].weight.t()?.contiguous()?.to_dtype(candle_core::DType::F32)?;
            let embed_dim = weight.dim(0)?;
            Ok(Correction {
                weight: PlainTensor { shape: weight.dims().to_vec(), data: weight.flatten_all()?.to_vec1()? },
                biases: PlainTensor {
                    shape: vec![rungs.len(), embed_dim],
                    data: biases.iter().flat_map(|layers| layers[layer].iter().copied()).collect(),
                },
            })
        };
        let blocks = (0..self.model.depth())
            .map(|block| Ok(BlockCorrection { projection: correction(2 * block)?, down: correction(2 * block + 1)? }));
        Ok(CorrectionGroup { blocks: blocks.collect::<Result<_, CompensationError>>()?, rungs })
    }

    /// The matrices, block by block, with the tokens of every chosen rung beside the dense ones.
    fn layers(&mut self, chosen: &[usize]) -> Result<Vec<Layer>, CompensationError> {
        let dense = self.model.whole();
        let mut dense_streams = self.start.clone();
        // What is fitted on dense tokens needs no others.
        let feeds_back = matches!(self.options.mode, Mode::Sequential | Mode::PerRung);
        let mut streams: Vec<Vec<Stream>> = if feeds_back { vec![dense_streams.clone(); chosen.len()] } else { vec![] };
        let mut layers = Vec::with_capacity(2 * self.model.depth());
        for block in 0..self.model.depth() {
            for branch in Branch::ALL {
                let (original, bias) = self.model.branch_end(block, branch)?;
                let before = dense_streams.clone();
                self.advance(&mut dense_streams, block, branch, dense, &original, &bias)?;
                let mut sum = None;
                for (place, &rung) in chosen.iter().enumerate() {
                    if self.options.mode == Mode::Mean {
                        break;
                    }
                    let own = streams.get(place).unwrap_or(&before);
                    let moments = self.moments(own, &before, &dense_streams, block, branch, rung)?;
                    if let Some(moments) = moments {
                        let kept = self.model.kept_inputs(branch, self.kept(block, rung));
                        solve::add(&mut sum, &moments, &original, &kept)?;
                    }
                }
                let weight = match sum {
                    Some(sum) => solve::solve(&sum, &original, self.options.damping, RIDGE)?,
                    None => original,
                };
                let (dense_tokens, dense_after) = (mean(&before)?, mean(&dense_streams)?);
                let dense_output = dense_after.iter().zip(&dense_tokens).map(|(after, before)| after - before);
                let dense_output = dense_output.collect();
                let layer = Layer { block, branch, weight, dense_tokens, dense_output };
                for (streams, &rung) in streams.iter_mut().zip(chosen) {
                    self.advance_corrected(streams, &layer, rung)?;
                }
                layers.push(layer);
                self.report()?;
            }
        }
        Ok(layers)
    }

    /// The biases of every layer at `rung`.
    fn biases(&mut self, layers: &[Layer], rung: usize) -> Result<Vec<Vec<f32>>, CompensationError> {
        let mut streams = self.start.clone();
        let mut biases = Vec::with_capacity(layers.len());
        for layer in layers {
            biases.push(self.advance_corrected(&mut streams, layer, rung)?);
            self.report()?;
        }
        Ok(biases)
    }

    /// Runs a layer with the matrix of the group and the rung's own bias, which is returned.
    fn advance_corrected(
        &self,
        streams: &mut [Stream],
        layer: &Layer,
        rung: usize,
    ) -> Result<Vec<f32>, CompensationError> {
        let kept = self.kept(layer.block, rung);
        let weight = self.model.kept_inputs(layer.branch, kept).select(&layer.weight, 0)?;
        let inputs: Vec<Option<Tensor>> = streams
            .par_iter()
            .map(|stream| self.model.branch_inputs(layer.block, layer.branch, kept, stream))
            .collect::<Result<_, _>>()?;
        let feedback = self.options.feedback;
        let own = mean(streams)?;
        let mut bias: Vec<f64> = layer
            .dense_output
            .iter()
            .zip(layer.dense_tokens.iter().zip(&own))
            .map(|(output, (dense, own))| output + feedback * (dense - own))
            .collect();
        if let Some(mean_inputs) = moments::column_means(&inputs)? {
            let weight = weight.to_dtype(candle_core::DType::F32)?.to_vec2::<f32>()?;
            for (mean, row) in mean_inputs.iter().zip(weight) {
                bias.iter_mut().zip(row).for_each(|(bias, weight)| *bias -= mean * f64::from(weight));
            }
        }
        let bias: Vec<f32> = bias.into_iter().map(|value| value as f32).collect();
        let tensor = Tensor::new(bias.as_slice(), &Device::Cpu)?.to_device(self.model.device())?;
        let tensor = tensor.to_dtype(layer.weight.dtype())?;
        streams
            .par_iter_mut()
            .zip(&inputs)
            .try_for_each(|(stream, inputs)| stream.advance(inputs.as_ref(), &weight, &tensor))?;
        Ok(bias)
    }

    fn advance(
        &self,
        streams: &mut [Stream],
        block: usize,
        branch: Branch,
        kept: Kept,
        weight: &Tensor,
        bias: &Tensor,
    ) -> Result<(), CompensationError> {
        streams.par_iter_mut().try_for_each(|stream| {
            let inputs = self.model.branch_inputs(block, branch, kept, stream)?;
            stream.advance(inputs.as_ref(), weight, bias)
        })?;
        Ok(())
    }

    /// The second moments of a rung's inputs and targets; `None` where it keeps nothing.
    fn moments(
        &self,
        own: &[Stream],
        before: &[Stream],
        after: &[Stream],
        block: usize,
        branch: Branch,
        rung: usize,
    ) -> Result<Option<Moments>, CompensationError> {
        let kept = self.kept(block, rung);
        Moments::sum(own.len(), |batch| {
            let Some(inputs) = self.model.branch_inputs(block, branch, kept, &own[batch])? else { return Ok(None) };
            // y + g (x - x_r), with y the difference that the dense branch makes.
            let output = (&after[batch].rows - &before[batch].rows)?;
            let error = (&before[batch].rows - &own[batch].rows)?;
            let targets = (output + (error * self.options.feedback)?)?;
            Ok(Some((inputs, targets)))
        })
    }

    fn kept(&self, block: usize, rung: usize) -> Kept {
        let rung = &self.sub_networks[rung];
        Kept {
            heads: rung.heads(block),
            value_dims: rung.value_dims(block),
            query_dims: rung.query_dims(block),
            neurons: rung.neurons(block),
        }
    }

    fn report(&mut self) -> Result<(), CompensationError> {
        self.done += 1;
        (self.progress)(self.done);
        if self.options.interrupt.load(Ordering::Relaxed) {
            return Err(CompensationError::Interrupted { layers: self.done });
        }
        Ok(())
    }
}

/// The mean token of all streams.
fn mean(streams: &[Stream]) -> Result<Vec<f64>, CompensationError> {
    let rows: Vec<Option<Tensor>> = streams.iter().map(|stream| Some(stream.rows.clone())).collect();
    Ok(moments::column_means(&rows)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
