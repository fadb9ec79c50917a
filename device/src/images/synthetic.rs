//! A made-up video stream, for timing without image files.

use image::{Rgb, RgbImage};

use super::normalization::Normalization;
use crate::model::description::ImageInput;

/// Frames of random colour gradients with noise, as a model takes them; the
/// seed gives every byte.
#[derive(Clone, Debug)]
pub struct SyntheticFrames {
    seed: u64,
    next: u64,
    height: u32,
    width: u32,
    normalization: Normalization,
    pixels: Vec<f32>,
}

impl SyntheticFrames {
    /// A stream of frames of the model's input size that starts at frame 0.
    #[must_use]
    pub fn new(input: &ImageInput, seed: u64) -> Self {
        Self {
            seed,
            next: 0,
            height: input.height as u32,
            width: input.width as u32,
            normalization: Normalization::new(input.mean, input.std),
            pixels: vec![0.0; 3 * input.height * input.width],
        }
    }

    /// The next frame, `[3, height, width]`, normalised; the stream does not end.
    pub fn next_frame(&mut self) -> &[f32] {
        let frame = self.frame(self.next);
        self.next = self.next.wrapping_add(1);
        self.normalization.apply(&frame, false, &mut self.pixels);
        &self.pixels
    }

    fn frame(&self, index: u64) -> RgbImage {
        let mut random = SplitMix64(self.seed ^ index.wrapping_mul(0x2545_f491_4f6c_dd1d));
        // Colours of the four corners, 32 to 223, which leaves room for the noise.
        let corners: [[f32; 3]; 4] = std::array::from_fn(|_| std::array::from_fn(|_| 32.0 + random.unit() * 191.0));
        let position = |pixel: u32, side: u32| pixel as f32 / (side.max(2) - 1) as f32;
        RgbImage::from_fn(self.width, self.height, |x, y| {
            let (x, y) = (position(x, self.width), position(y, self.height));
            let weights = [(1.0 - x) * (1.0 - y), x * (1.0 - y), (1.0 - x) * y, x * y];
            Rgb(std::array::from_fn(|channel| {
                let smooth: f32 = weights.iter().zip(&corners).map(|(weight, corner)| weight * corner[channel]).sum();
                (smooth + (random.unit() - 0.5) * 64.0).round() as u8
            }))
        })
    }
}

/// The generator of Steele, Lea and Flood (doi 10.1145/2714064.2660195).
struct SplitMix64(u64);

impl SplitMix64 {
    /// Uniform in 0 to 1, in steps of 2^-24.
    fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^= value >> 31;
        (value >> 40) as f32 / (1u32 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_and_index_determine_a_frame() {
        let input = ImageInput {
            height: 24,
            width: 40,
            channels: 3,
            patch: 8,
            mean: [0.5; 3],
            std: [0.5; 3],
            interpolation: crate::model::description::Interpolation::Bicubic,
            crop_fraction: 1.0,
        };
        let mut frames = SyntheticFrames::new(&input, 7);
        let first = frames.next_frame().to_vec();
        let second = frames.next_frame().to_vec();
        assert_eq!(first.len(), 3 * 24 * 40);
        assert!(first.iter().all(|value| (-1.0..=1.0).contains(value)));
        assert_ne!(first, second);
        assert_eq!(SyntheticFrames::new(&input, 7).next_frame(), first);
        assert_ne!(SyntheticFrames::new(&input, 8).next_frame(), first);
    }
}
