//! What a model and the stages of a job need of a device's memory, before they run there.
//!
//! In f32. The figures are sums over what a pass keeps, and bounds for what it makes on the way; a test compares them
//! with what is allocated on the CPU.

use candle_core::Device;
use headroom_device::model::Description;
use headroom_device::model::description::Mlp;

const BYTES: u64 = 4;

/// What a stage keeps on the device at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Forward and backward through the model with so many images together.
    Gradients { images: usize },
    /// The tokens of so many images between two layers, and beside them those of so many rungs, with what every rung
    /// puts into the layer that is being fitted.
    Tokens { images: usize, rungs: usize },
}

/// Bytes that a model of so many parameters and a stage need together.
#[must_use]
pub fn needed(description: &Description, parameters: u64, held: Held) -> u64 {
    let of = |size: usize| size as u64;
    let (width, neurons) = (of(description.embed_dim), of(description.neurons));
    let (heads, tokens) = (of(description.heads), of(description.tokens()));
    let attention = heads * of(description.head_dim);
    let gated = matches!(description.blocks.first().map(|block| &block.mlp), Some(Mlp::Gated { .. }));
    let values = match held {
        Held::Gradients { images } => {
            // Each block keeps its input, what is packed, the middle, and the neurons before and after activation.
            let kept = of(description.blocks.len()) * (2 * width + 3 * attention + 2 * neurons);
            // One block's gradients: of the neurons, of what is packed, of some tokens; and of all scores.
            let neuron_gradients = if gated { 6 } else { 3 } * neurons;
            let passing = neuron_gradients + 6 * attention + 8 * width + 3 * heads * tokens;
            of(images) * tokens * (kept + passing)
        }
        Held::Tokens { images, rungs } => {
            let fitted = neurons.max(attention);
            // The dense tokens at the start, before and after a branch; one batch's way through a branch is small.
            of(images) * tokens * ((3 + of(rungs)) * width + of(rungs) * fitted)
        }
    };
    BYTES * (parameters + values)
}

/// The most images, up to `most`, whose [`needed`] bytes are not above `free`.
#[must_use]
pub fn largest_batch(free: u64, most: usize, needed: impl Fn(usize) -> u64) -> Option<usize> {
    // What is needed rises with the images.
    (1..=most).rev().find(|&images| needed(images) <= free)
}

/// Free bytes on a GPU; `None` on the CPU, whose system finds memory for more than there is.
#[must_use]
pub fn free(device: &Device) -> Option<u64> {
    #[cfg(feature = "cuda")]
    if let Ok(device) = device.as_cuda_device() {
        let (free, _) = device.cuda_stream().context().mem_get_info().ok()?;
        return Some(free as u64);
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
        assert_eq!(largest_batch(135, 8, needed), Some(3));
        assert_eq!(largest_batch(110, 8, needed), Some(1));
        assert_eq!(largest_batch(109, 8, needed), None);
    }

    #[test]
    fn the_cpu_has_no_limit_of_its_own() {
        assert_eq!(free(&Device::Cpu), None);
    }
}
