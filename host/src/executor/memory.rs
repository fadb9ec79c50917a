//! What a model and the stages of a job need of a device's memory, before they run there.
//!
//! In f32, which half types need less than. The figures are sums over what a pass keeps, and bounds for what it makes on
//! the way; a test compares them with what is allocated on the CPU.

use candle_core::Device;
use headroom_device::model::Description;
use headroom_device::model::description::Mlp;

use crate::compensation::{MATRICES_ON_DEVICE, PARTS};

const BYTES: u64 = 4;

/// Pixels are kept on a device where they take no more than one in so many of its free bytes: the rest is for what is
/// made of them.
pub const PART_FOR_PIXELS: u64 = 4;

/// What a stage keeps on the device at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Forward and backward through the model with so many images together.
    Gradients { images: usize },
    /// The same, and beside it the summed gradients of the weights whose rows are structures.
    WeightGradients { images: usize },
    /// The dense tokens of so many images, on their way from layer to layer, and queries and keys of a layer.
    Tokens { images: usize, way: Way },
    /// Dense tokens at the start, before and after a branch, what is aimed at, and beside them those of so many rungs,
    /// what so many put into the layer that is being fitted, and the sums of its second moments.
    RungTokens { images: usize, rungs: usize, inputs: usize, way: Way },
    /// Forward through so many sub-networks in turn, each with a copy of its heads, with so many images together.
    Embeddings { images: usize, sub_networks: usize },
}

/// How tokens go through a layer: in batches, of which each thread has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Of a batch, which has one image at least.
    pub tokens_together: usize,
    pub threads: usize,
}

impl Way {
    /// With the threads that this program uses on `device`: on a GPU one.
    #[must_use]
    pub fn on(device: &Device, tokens_together: usize) -> Self {
        Self { tokens_together, threads: if device.is_cpu() { rayon::current_num_threads() } else { 1 } }
    }

    /// Tokens that are in the middle of a layer at the same time.
    fn tokens(self, images: u64, tokens_per_image: u64) -> u64 {
        let batch = (self.tokens_together as u64).max(tokens_per_image);
        (batch * self.threads as u64).min(images * tokens_per_image)
    }
}

/// Bytes that a model of so many parameters and a stage need together.
#[must_use]
pub fn needed(description: &Description, parameters: u64, held: Held) -> u64 {
    let of = |size: usize| size as u64;
    let (width, neurons) = (of(description.embed_dim), of(description.neurons));
    let (heads, tokens) = (of(description.heads), of(description.tokens()));
    let attention = heads * of(description.head_dim);
    let gated = matches!(description.blocks.first().map(|block| &block.mlp), Some(Mlp::Gated { .. }));
    // One branch on its way forward, the larger one: what is packed and its parts apart, scores and probabilities; or the
    // neurons before, in and after activation.
    let forward = (3 * width + 7 * attention + 4 * heads * tokens).max(4 * width + if gated { 4 } else { 3 } * neurons);
    let rows = of(description.blocks.len()) * width * (attention + if gated { 2 } else { 1 } * neurons);
    let values = match held {
        Held::Gradients { images } | Held::WeightGradients { images } => {
            // Each block keeps its input, what is packed, the middle, and the neurons before and after activation.
            let kept = of(description.blocks.len()) * (2 * width + 3 * attention + 2 * neurons);
            // One block's gradients: of the neurons, of what is packed, of some tokens; and of all scores.
            let neuron_gradients = if gated { 6 } else { 3 } * neurons;
            let passing = neuron_gradients + 6 * attention + 8 * width + 3 * heads * tokens;
            let summed = if matches!(held, Held::WeightGradients { .. }) { rows } else { 0 };
            of(images) * tokens * (kept + passing) + summed
        }
        Held::Tokens { images, way } => {
            of(images) * tokens * (width + 2 * attention) + way.tokens(of(images), tokens) * forward
        }
        Held::RungTokens { images, rungs, inputs, way } => {
            let fitted = neurons.max(attention);
            let held = of(images) * tokens * ((4 + of(rungs)) * width + of(inputs) * fitted);
            // In f64: on the host of each part the sum and what is added to it.
            let matrices = (2 * PARTS).max(MATRICES_ON_DEVICE);
            let sums = 2 * of(matrices) * fitted * (fitted + width);
            // Beside the original matrices those of every layer that were fitted.
            let matrices = of(description.blocks.len()) * width * (neurons + attention);
            held + sums + matrices + way.tokens(of(images), tokens) * forward
        }
        Held::Embeddings { images, sub_networks } => {
            let heads_of_all = of(description.blocks.len()) * 4 * width * attention;
            of(sub_networks) * heads_of_all + of(images) * tokens * forward
        }
    };
    BYTES * (parameters + values)
}

/// `needed` with a tenth more, which is what a device has to have free: allocators round up and leave gaps, matrix
/// kernels take buffers, and kernels are loaded when they are first used.
#[must_use]
pub fn with_margin(needed: u64) -> u64 {
    needed + needed / 10
}

/// The most images, up to `most`, whose [`needed`] bytes, [`with_margin`], are not above `free`.
#[must_use]
pub fn largest_batch(free: u64, most: usize, needed: impl Fn(usize) -> u64) -> Option<usize> {
    // What is needed rises with the images.
    (1..=most).rev().find(|&images| with_margin(needed(images)) <= free)
}

/// Free bytes on a GPU; `None` on the CPU, whose system finds memory for more than there is.
#[must_use]
pub fn free(device: &Device) -> Option<u64> {
    #[cfg(feature = "cuda")]
    if let Ok(device) = device.as_cuda_device() {
        return super::gpu::free(device);
    }
    let _ = device;
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_batch_that_fits_is_taken() {
        let needed = |images: usize| 100 + 10 * images as u64;
        assert_eq!(largest_batch(1000, 8, needed), Some(8));
        assert_eq!(largest_batch(143, 8, needed), Some(3));
        assert_eq!(largest_batch(121, 8, needed), Some(1));
        assert_eq!(largest_batch(120, 8, needed), None);
    }

    #[test]
    fn the_cpu_has_no_limit_of_its_own() {
        assert_eq!(free(&Device::Cpu), None);
    }
}
