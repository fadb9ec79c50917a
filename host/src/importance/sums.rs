//! Sums over images, and the importance that they amount to.

use super::loss::{gradient_on_device, loss};
use super::rows::{add_gradient, device_product, device_square_sums, square_sums};
use super::{FisherForm, Importance, Views};
use crate::executor::operation::on_fused_device;
use crate::executor::upload::Uploaded;
use crate::executor::{CandleVit, ExecutorError, LayerGradient};

use candle_core::Tensor;

/// What has been summed for one layer: squares by row, or gradients by weight.
#[derive(Clone, Debug)]
struct LayerSum {
    rows: usize,
    inputs: usize,
    /// Sums over images, in f64 from group to group.
    total: Vec<f64>,
    /// The gradients of the present group, as the matrix products leave them.
    group: Vec<f32>,
    /// What the present group adds on a device, in f32: read when the group ends, so that nothing waits for it before.
    pending: Option<Tensor>,
}

/// What has been summed for the layers of one block: value first, then the MLP's.
type BlockSum = Vec<LayerSum>;

/// Sums over the images of one group.
#[derive(Clone, Debug)]
pub struct Sums {
    form: FisherForm,
    images: usize,
    blocks: Vec<BlockSum>,
}

impl Sums {
    /// Nothing summed yet.
    pub fn new(form: FisherForm, depth: usize) -> Self {
        Self { form, images: 0, blocks: vec![Vec::new(); depth] }
    }

    /// The number of images summed.
    pub fn images(&self) -> usize {
        self.images
    }

    /// Adds the gradients of one image; says whether its loss and gradients are finite, as far as that is known before
    /// the group ends ([`Self::settle`]).
    ///
    /// # Errors
    /// If the model fails.
    pub fn add(&mut self, model: &CandleVit, views: &Views) -> Result<bool, ExecutorError> {
        let pixels = Uploaded::to_device_of(model, &views.pixels)?;
        let traced = model.traced(&pixels.tensor)?;
        let pooled = traced.pooled();
        let mut finite = true;
        let gradient = if on_fused_device(&[&pooled]) {
            let width = pooled.dim(1)?;
            let loss = loss(&pooled.flatten_all()?.to_vec1()?, width, views.global);
            finite = loss.value.is_finite();
            Tensor::from_vec(loss.gradient, (views.views, width), model.device())?
        } else {
            gradient_on_device(&pooled, views.global)?
        };
        let gradient = gradient.to_dtype(pooled.dtype())?;
        traced.backward(&gradient, |index, block| {
            let layers = std::iter::once(&block.value).chain(&block.neurons);
            let sums = &mut self.blocks[index];
            for (position, layer) in layers.enumerate() {
                if position == sums.len() {
                    sums.push(LayerSum::new(self.form, layer)?);
                }
                finite &= sums[position].add(self.form, layer)?;
            }
            Ok(())
        })?;
        self.images += 1;
        Ok(finite)
    }

    /// Ends a group: reads what it added on a device, and says whether that is finite.
    ///
    /// # Errors
    /// If the device fails.
    pub fn settle(&mut self) -> Result<bool, ExecutorError> {
        let mut finite = true;
        for layer in self.blocks.iter_mut().flatten() {
            finite &= layer.settle(self.form)?;
        }
        Ok(finite)
    }

    /// Adds a later group.
    pub fn merge(&mut self, later: Self) {
        self.images += later.images;
        for (block, later) in self.blocks.iter_mut().zip(later.blocks) {
            if block.is_empty() {
                *block = later;
                block.iter_mut().for_each(LayerSum::close_group);
                continue;
            }
            for (layer, later) in block.iter_mut().zip(later) {
                layer.merge(&later);
            }
        }
    }

    /// The importance of all heads and neurons.
    ///
    /// # Errors
    /// If the model's weights are asked for and the device fails.
    pub fn importance(&self, model: &CandleVit) -> candle_core::Result<Importance> {
        let mut importance = Importance::default();
        for (index, block) in self.blocks.iter().enumerate() {
            let weights = match self.form {
                FisherForm::Saliency => model.structure_rows(index)?,
                FisherForm::PerImage | FisherForm::Accumulated => vec![Vec::new(); block.len()],
            };
            let mut layers =
                block.iter().zip(&weights).map(|(layer, weights)| layer.row_means(self.form, self.images, weights));
            let values = layers.next().unwrap_or_default();
            let head_dim = model.head_dim();
            let of_head = |head: &[f64]| head.iter().sum::<f64>() / head_dim as f64;
            importance.heads.push(values.chunks_exact(head_dim).map(of_head).collect());
            let layers: Vec<Vec<f64>> = layers.collect();
            let of_neuron = |row: usize| layers.iter().map(|layer| layer[row]).sum::<f64>() / layers.len() as f64;
            importance.neurons.push((0..model.neurons()).map(of_neuron).collect());
        }
        Ok(importance)
    }
}

impl LayerSum {
    fn new(form: FisherForm, layer: &LayerGradient) -> Result<Self, ExecutorError> {
        let (rows, inputs) = (layer.outputs.dim(1)?, layer.inputs.dim(1)?);
        let (total, group) = match form {
            FisherForm::PerImage => (vec![0.0; rows], Vec::new()),
            FisherForm::Accumulated | FisherForm::Saliency => (Vec::new(), vec![0.0; rows * inputs]),
        };
        Ok(Self { rows, inputs, total, group, pending: None })
    }

    fn add(&mut self, form: FisherForm, layer: &LayerGradient) -> Result<bool, ExecutorError> {
        if !on_fused_device(&[&layer.outputs, &layer.inputs]) {
            let found = match form {
                FisherForm::PerImage => device_square_sums(layer)?,
                FisherForm::Accumulated | FisherForm::Saliency => device_product(layer)?,
            };
            self.pending = Some(match self.pending.take() {
                Some(before) => (before + found)?,
                None => found,
            });
            return Ok(true);
        }
        match form {
            FisherForm::PerImage => {
                let sums = square_sums(layer)?;
                self.total.iter_mut().zip(&sums).for_each(|(total, sum)| *total += sum);
                Ok(sums.iter().all(|sum| sum.is_finite()))
            }
            FisherForm::Accumulated | FisherForm::Saliency => {
                add_gradient(layer, &mut self.group)?;
                Ok(self.group.iter().all(|value| value.is_finite()))
            }
        }
    }

    fn settle(&mut self, form: FisherForm) -> Result<bool, ExecutorError> {
        let Some(pending) = self.pending.take() else { return Ok(true) };
        let found = pending.flatten_all()?.to_vec1::<f32>()?;
        let finite = found.iter().all(|value| value.is_finite());
        match form {
            FisherForm::PerImage => self.total = found.into_iter().map(f64::from).collect(),
            FisherForm::Accumulated | FisherForm::Saliency => self.group = found,
        }
        Ok(finite)
    }

    /// Moves the group's gradients into the total.
    fn close_group(&mut self) {
        if !self.group.is_empty() {
            self.total = std::mem::take(&mut self.group).into_iter().map(f64::from).collect();
        }
    }

    fn merge(&mut self, later: &Self) {
        if later.group.is_empty() {
            self.total.iter_mut().zip(&later.total).for_each(|(total, later)| *total += later);
        } else {
            self.total.iter_mut().zip(&later.group).for_each(|(total, &later)| *total += f64::from(later));
        }
    }

    /// The mean over a row's inputs of what `form` makes of each. Only one form needs the layer's `weights`.
    fn row_means(&self, form: FisherForm, images: usize, weights: &[f32]) -> Vec<f64> {
        let images = images as f64;
        let inputs = self.inputs as f64;
        match form {
            FisherForm::PerImage => self.total.iter().map(|sum| sum / images / inputs).collect(),
            FisherForm::Accumulated => {
                let row_mean = |row: &[f64]| row.iter().map(|sum| (sum / images).powi(2)).sum::<f64>() / inputs;
                debug_assert_eq!(self.total.len(), self.rows * self.inputs);
                self.total.chunks_exact(self.inputs).map(row_mean).collect()
            }
            FisherForm::Saliency => {
                let rows = self.total.chunks_exact(self.inputs).zip(weights.chunks_exact(self.inputs));
                let product = |(sum, &weight): (&f64, &f32)| (sum / images * f64::from(weight)).abs();
                rows.map(|(sums, weights)| sums.iter().zip(weights).map(product).sum::<f64>() / inputs).collect()
            }
        }
    }
}
