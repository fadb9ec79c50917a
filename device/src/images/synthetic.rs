//! A made-up video stream, for timing without image files.

use image::{Rgb, RgbImage};

/// Frames of drifting colour gradients with noise; the seed gives every byte.
#[derive(Clone, Debug)]
pub struct SyntheticFrames {
    seed: u64,
    height: u32,
    width: u32,
    next: u64,
}

impl SyntheticFrames {
    /// A stream of `height` x `width` frames that starts at frame 0.
    #[must_use]
    pub fn new(seed: u64, height: u32, width: u32) -> Self {
        Self { seed, height, width, next: 0 }
    }

    /// Frame number `index`.
    #[must_use]
    pub fn frame(&self, index: u64) -> RgbImage {
        let mut random = SplitMix64(self.seed ^ index.wrapping_mul(0x2545_f491_4f6c_dd1d));
        // Colours of the four corners, each 32 to 223, which leaves room for noise.
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

impl Iterator for SyntheticFrames {
    type Item = RgbImage;

    /// The next frame; the stream does not end.
    fn next(&mut self) -> Option<RgbImage> {
        let frame = self.frame(self.next);
        self.next = self.next.wrapping_add(1);
        Some(frame)
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
        let frames: Vec<RgbImage> = SyntheticFrames::new(7, 24, 40).take(3).collect();
        assert_eq!(frames[0].dimensions(), (40, 24));
        assert_eq!(frames[2], SyntheticFrames::new(7, 24, 40).frame(2));
        assert_ne!(frames[0], frames[1]);
        assert_ne!(frames[0], SyntheticFrames::new(8, 24, 40).frame(0));
    }
}
