//! Pixels on their way to a device.

use candle_core::{Device, Tensor};

use super::error::{ExecutorError, Result};
use super::memory::{self, PART_FOR_PIXELS};
use super::model::CandleVit;

/// The pixels of some images that go through a model together.
#[derive(Clone, Debug)]
pub enum PixelBatch<'a> {
    /// On the device.
    There(Tensor),
    /// Still to be uploaded, whenever they are needed.
    OnHost(&'a [f32]),
}

impl<'a> PixelBatch<'a> {
    /// Uploads `batches` of whole images where the device of `model` has room to keep them.
    ///
    /// # Errors
    /// If the device fails.
    pub fn upload(batches: &[&'a [f32]], model: &CandleVit) -> Result<Vec<Self>> {
        let bytes: usize = batches.iter().map(|batch| size_of_val(*batch)).sum();
        let fits = memory::free(model.device()).is_none_or(|free| bytes as u64 <= free / PART_FOR_PIXELS);
        if !fits {
            return Ok(batches.iter().map(|batch| Self::OnHost(batch)).collect());
        }
        batches.iter().map(|batch| Ok(Self::There(to_device(batch, model)?))).collect()
    }

    /// The pixels on the device of `model`, `[images, channels, height, width]`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn tensor(&self, model: &CandleVit) -> Result<Tensor> {
        match self {
            Self::There(tensor) => Ok(tensor.clone()),
            Self::OnHost(pixels) => to_device(pixels, model),
        }
    }
}

/// Whole images on the device of `model`, `[images, channels, height, width]`.
///
/// # Errors
/// If the pixels are not whole images, or the device fails.
pub fn to_device(pixels: &[f32], model: &CandleVit) -> Result<Tensor> {
    let [channels, height, width] = model.image_shape();
    let shape = (model.images_in(pixels)?, channels, height, width);
    let uploaded = upload(pixels, model.device()).map_err(ExecutorError::from)?;
    Ok(uploaded.reshape(shape)?)
}

fn upload(values: &[f32], device: &Device) -> candle_core::Result<Tensor> {
    Tensor::from_slice(values, values.len(), device)
}
