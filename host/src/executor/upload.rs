//! Pixels on their way to a device. To a GPU they go from page-locked memory, which it reads by itself while the host
//! queues what comes after.

use candle_core::{Device, Tensor};

use super::error::Result;
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

/// Pixels on a device, `[images, channels, height, width]`, with the memory that they are copied from: the copy may still
/// be on its way, and dropping this waits for it.
#[derive(Debug)]
pub struct Uploaded {
    pub tensor: Tensor,
    #[cfg(feature = "cuda")]
    _source: Option<super::gpu::BeingCopied>,
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
        batches.iter().map(|batch| Ok(Self::There(Uploaded::to_device_of(model, batch)?.tensor))).collect()
    }

    /// The pixels on the device of `model`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn uploaded(&self, model: &CandleVit) -> Result<Uploaded> {
        match self {
            Self::There(tensor) => Ok(Uploaded::there(tensor.clone())),
            Self::OnHost(pixels) => Uploaded::to_device_of(model, pixels),
        }
    }
}

impl Uploaded {
    /// Whole images, on the device of `model`.
    ///
    /// # Errors
    /// If the pixels are not whole images, or the device fails.
    pub fn to_device_of(model: &CandleVit, pixels: &[f32]) -> Result<Self> {
        let [channels, height, width] = model.image_shape();
        let shape = (model.images_in(pixels)?, channels, height, width);
        #[cfg(feature = "cuda")]
        if let Device::Cuda(device) = model.device() {
            return Ok(Self::to_gpu(device, pixels, shape)?);
        }
        let tensor = Tensor::from_slice(pixels, shape, &Device::Cpu)?.to_device(model.device())?;
        Ok(Self::there(tensor))
    }

    fn there(tensor: Tensor) -> Self {
        Self {
            tensor,
            #[cfg(feature = "cuda")]
            _source: None,
        }
    }

    #[cfg(feature = "cuda")]
    fn to_gpu(
        device: &candle_core::CudaDevice,
        pixels: &[f32],
        shape: (usize, usize, usize, usize),
    ) -> candle_core::Result<Self> {
        use candle_core::cuda_backend::WrapErr;
        use candle_core::op::BackpropOp;
        use candle_core::{CudaStorage, Storage};

        let (there, source) = super::gpu::BeingCopied::start(&device.cuda_stream(), pixels).w()?;
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(there, device.clone()));
        let tensor = Tensor::from_storage(storage, shape, BackpropOp::none(), false);
        Ok(Self { tensor, _source: Some(source) })
    }
}
