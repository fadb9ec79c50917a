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
//! corrected rung then gets biases of its own, `b_r = E t_r - W E a_r`, block by
//! block in the same way. Nothing is trained and no label is used.
//!
//! | mode | matrices | error feedback |
//! |---|---|---|
//! | [`Mode::Mean`] | the original ones; biases only | in the means |
//! | [`Mode::Shared`] | one of each layer, fitted on dense tokens | none in `W` |
//! | [`Mode::Sequential`] | one of each layer | yes |
//! | [`Mode::PerRung`] | one of each layer for each chosen rung | yes |
//!
//! Limits: the chosen rungs' tokens are kept in memory, and what they put into
//! the layer that is being fitted, four bytes for each value; a matrix serves
//! rungs far below the chosen ones badly.

mod equations;
mod error;
mod moments;

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Device, Tensor};
use headroom_device::model::corrections::{BlockCorrection, Correction, CorrectionGroup, Corrections};
use headroom_device::model::weights::Tensor as PlainTensor;
use headroom_shared::SubNetwork;

use crate::executor::batches::each;
use crate::executor::{Branch, CandleVit, CutBranch, Kept, Stream};
use equations::Equations;

pub use error::CompensationError;
use moments::Moments;
pub(crate) use moments::PARTS;
pub(crate) use moments::device::MATRICES_ON_DEVICE;

/// Tokens that one product holds together: on the CPU few enough for its caches, on a GPU so many that starting a product
/// takes no time beside it.
#[must_use]
pub fn tokens_together(device: &Device) -> usize {
    if device.is_cpu() { 512 } else { 8192 }
}

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

/// The rungs of a ladder, and what becomes of them.
#[derive(Clone, Copy, Debug)]
pub struct Rungs<'a> {
    /// All of them.
    pub sub_networks: &'a [SubNetwork],
    /// The numbers of those that get a correction.
    pub corrected: &'a [usize],
    /// Those of the corrected ones that the matrices are fitted on.
    pub chosen: &'a [usize],
}

/// Fits corrections for some `rungs` on `pixels` `[images, 3, height, width]`, which are normalised. `model` has the
/// permuted weights. Empty with [`Mode::None`].
///
/// The result does not depend on the number of threads. `progress` is called with the layers done.
///
/// # Errors
/// If the pixels are not whole images, the model fails, the equations have no solution, or `options.interrupt` is set.
pub fn fit(
    model: &CandleVit,
    rungs: Rungs<'_>,
    pixels: &[f32],
    options: Options<'_>,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Corrections, CompensationError> {
    fit_where(model.device().is_cpu(), model, rungs, pixels, options, progress)
}

/// As [`fit`], with second moments summed on the host or else by tensor operations.
fn fit_where(
    on_host: bool,
    model: &CandleVit,
    rungs: Rungs<'_>,
    pixels: &[f32],
    options: Options<'_>,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Corrections, CompensationError> {
    let Rungs { sub_networks, corrected, chosen } = rungs;
    let groups: Vec<(Vec<usize>, Vec<usize>)> = match options.mode {
        Mode::None => return Ok(Corrections::default()),
        // Every rung goes to the nearest of the chosen ones.
        Mode::PerRung => chosen
            .iter()
            .map(|&one| {
                let nearest = |rung: &usize| chosen.iter().min_by_key(|other| other.abs_diff(*rung)) == Some(&one);
                (vec![one], corrected.iter().copied().filter(nearest).collect())
            })
            .collect(),
        Mode::Mean | Mode::Shared | Mode::Sequential => vec![(chosen.to_vec(), corrected.to_vec())],
    };
    let start = Tokens::new(model.streams(pixels, tokens_together(model.device()))?)?;
    let mut fit = Fit { model, on_host, sub_networks, start, options, progress, done: 0 };
    let groups = groups.into_iter().map(|(chosen, rungs)| fit.group(&chosen, rungs));
    Ok(Corrections { groups: groups.collect::<Result<_, _>>()? })
}

/// How often all images go through the model in [`fit`], for so many corrected and chosen rungs.
#[must_use]
pub fn passes(mode: Mode, corrected: usize, chosen: usize) -> usize {
    match mode {
        Mode::None => 0,
        Mode::Mean | Mode::Sequential => 1 + corrected,
        // The chosen ones see dense tokens for the matrices, and their own for the biases.
        Mode::Shared => 1 + chosen + corrected,
        // Each chosen one beside the dense model.
        Mode::PerRung => chosen + corrected,
    }
}

/// Rungs of which [`fit`] holds the tokens beside the dense ones at the same time, and those of which it holds what they
/// put into a layer, of so many chosen ones.
#[must_use]
pub fn rungs_held(mode: Mode, chosen: usize) -> (usize, usize) {
    match mode {
        Mode::None | Mode::Mean => (0, 0),
        // The chosen ones see dense tokens, one after the other.
        Mode::Shared => (0, 1),
        Mode::PerRung => (1, 1),
        Mode::Sequential => (chosen, chosen),
    }
}

/// Layers that [`fit`] reports as done in the end.
#[must_use]
pub fn layers(mode: Mode, depth: usize, corrected: usize, chosen: usize) -> usize {
    let one_after_the_other = match mode {
        Mode::None => 0,
        Mode::Mean | Mode::Shared => 1 + corrected,
        Mode::Sequential => 1 + corrected - chosen,
        Mode::PerRung => corrected,
    };
    2 * depth * one_after_the_other
}

impl Mode {
    /// Whether matrices are fitted on what each rung really sees.
    fn feeds_back(self) -> bool {
        matches!(self, Self::Sequential | Self::PerRung)
    }
}

/// The tokens of all images on their way through the model.
#[derive(Clone)]
struct Tokens {
    streams: Vec<Stream>,
    mean: Vec<f64>,
}

impl Tokens {
    fn new(streams: Vec<Stream>) -> Result<Self, CompensationError> {
        let mean = mean(&streams)?;
        Ok(Self { streams, mean })
    }
}

/// A layer with the matrix of a group and what every rung's biases depend on.
struct Layer {
    block: usize,
    branch: Branch,
    /// `[inputs, embed_dim]`.
    weight: Tensor,
    /// The mean of the dense tokens before and after the branch.
    dense_before: Vec<f64>,
    dense_after: Vec<f64>,
}

/// The biases of a rung, layer by layer.
type Biases = Vec<Vec<f32>>;

struct Fit<'a> {
    model: &'a CandleVit,
    /// Whether the host sums the second moments, else tensor operations.
    on_host: bool,
    sub_networks: &'a [SubNetwork],
    /// What enters block 0.
    start: Tokens,
    options: Options<'a>,
    progress: &'a (dyn Fn(usize) + Sync),
    done: usize,
}

impl Fit<'_> {
    /// The matrices fitted on `chosen`, and the biases of `rungs` with them.
    fn group(&mut self, chosen: &[usize], rungs: Vec<usize>) -> Result<CorrectionGroup, CompensationError> {
        let (layers, known) = self.layers(chosen)?;
        let mut biases = Vec::with_capacity(rungs.len());
        for &rung in &rungs {
            let known = chosen.iter().position(|&one| one == rung).and_then(|place| known.get(place));
            biases.push(known.cloned().map_or_else(|| self.biases(&layers, rung), Ok)?);
        }
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

    /// The matrices, block by block. Where they are fitted on the tokens of every chosen rung, which go beside the dense
    /// ones then, also the biases of those rungs.
    fn layers(&mut self, chosen: &[usize]) -> Result<(Vec<Layer>, Vec<Biases>), CompensationError> {
        let mode = self.options.mode;
        let mut dense = self.start.clone();
        let mut own = if mode.feeds_back() { vec![dense.clone(); chosen.len()] } else { vec![] };
        let mut biases = vec![Biases::new(); own.len()];
        let mut layers = Vec::with_capacity(2 * self.model.depth());
        for block in 0..self.model.depth() {
            for branch in Branch::ALL {
                let before = dense.clone();
                self.model.advance(block, branch, &mut dense.streams, |_| ())?;
                dense.mean = mean(&dense.streams)?;
                let (original, _) = self.model.branch_end(block, branch)?;
                // The branch cut to each chosen rung, and what the rung puts into its last layer.
                let (mut equations, mut seen) = (Equations::default(), Vec::new());
                if mode != Mode::Mean {
                    let aims = self.aims(&before.streams, &dense.streams)?;
                    for (place, &rung) in chosen.iter().enumerate() {
                        let streams = &own.get(place).unwrap_or(&before).streams;
                        let cut = self.model.cut(block, branch, self.kept(block, rung))?;
                        let found = each(self.model.device(), streams, |stream| cut.inputs(stream))?;
                        if let Some(moments) = self.moments(&found, &aims, streams)? {
                            equations = equations.with(&moments, &original, &cut.kept)?;
                        }
                        if mode.feeds_back() {
                            seen.push((cut, found));
                        }
                    }
                }
                let weight = equations.solve(&original, self.options.damping, RIDGE)?;
                let layer = Layer { block, branch, weight, dense_before: before.mean, dense_after: dense.mean.clone() };
                for ((tokens, biases), (cut, inputs)) in own.iter_mut().zip(&mut biases).zip(&seen) {
                    biases.push(self.advance(tokens, &layer, cut, Some(inputs))?);
                }
                layers.push(layer);
                self.report()?;
            }
        }
        Ok((layers, biases))
    }

    /// The biases of every layer at `rung`.
    fn biases(&mut self, layers: &[Layer], rung: usize) -> Result<Biases, CompensationError> {
        let mut tokens = self.start.clone();
        let mut biases = Vec::with_capacity(layers.len());
        for layer in layers {
            let cut = self.model.cut(layer.block, layer.branch, self.kept(layer.block, rung))?;
            biases.push(self.advance(&mut tokens, layer, &cut, None)?);
            self.report()?;
        }
        Ok(biases)
    }

    /// Runs a layer, `cut` to a rung, with the matrix of the group and the rung's own bias, which is returned. `inputs`
    /// are those of the branch's last layer, where they are known.
    fn advance(
        &self,
        tokens: &mut Tokens,
        layer: &Layer,
        cut: &CutBranch<'_>,
        inputs: Option<&Vec<Option<Tensor>>>,
    ) -> Result<Vec<f32>, CompensationError> {
        let weight = cut.kept.select(&layer.weight, 0)?;
        let device = self.model.device();
        let batches: Vec<_> = tokens.streams.iter_mut().enumerate().collect();
        each(device, batches, |(batch, stream)| {
            let inputs = inputs.map_or_else(|| cut.inputs(stream), |inputs| Ok(inputs[batch].clone()))?;
            stream.add(inputs.as_ref(), &weight)
        })?;
        // E t_r - W E a_r: `W E a_r` is what the mean token has just moved by.
        let moved = mean(&tokens.streams)?;
        let feedback = self.options.feedback;
        let dense = layer.dense_before.iter().zip(&layer.dense_after);
        let bias = dense.zip(tokens.mean.iter().zip(&moved)).map(|((dense, dense_after), (own, moved))| {
            (dense_after - dense + feedback * (dense - own) - (moved - own)) as f32
        });
        let bias: Vec<f32> = bias.collect();
        tokens.mean = moved.iter().zip(&bias).map(|(moved, &bias)| moved + f64::from(bias)).collect();
        let tensor = Tensor::new(bias.as_slice(), device)?.to_dtype(layer.weight.dtype())?;
        each(device, &mut tokens.streams, |stream| stream.shift(&tensor))?;
        Ok(bias)
    }

    /// `y + g x` of every batch, with the dense tokens `x` before a branch and its output `y`: what is aimed at but for
    /// the rung's own `g x_r`.
    fn aims(&self, before: &[Stream], after: &[Stream]) -> Result<Vec<Tensor>, CompensationError> {
        let aims = |(before, after): (&Stream, &Stream)| -> Result<Tensor, CompensationError> {
            let (before, after) = (before.rows.to_dtype(DType::F32)?, after.rows.to_dtype(DType::F32)?);
            Ok((after + (before * (self.options.feedback - 1.0))?)?)
        };
        each(self.model.device(), before.iter().zip(after).collect::<Vec<_>>(), aims)
    }

    /// The second moments of a rung's inputs and targets; `None` where it keeps nothing.
    fn moments(
        &self,
        inputs: &[Option<Tensor>],
        aims: &[Tensor],
        own: &[Stream],
    ) -> Result<Option<Moments>, CompensationError> {
        Ok(Moments::sum(self.on_host, inputs.len(), |batch| {
            let Some(inputs) = inputs[batch].clone() else { return Ok(None) };
            let own = own[batch].rows.to_dtype(DType::F32)?;
            Ok(Some((inputs, (&aims[batch] - (own * self.options.feedback)?)?)))
        })?)
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
    let rows: Vec<&Tensor> = streams.iter().map(|stream| &stream.rows).collect();
    Ok(moments::column_means(&rows)?)
}

#[cfg(test)]
mod tests;
