//! From a painted canvas to an 8-bit image.

use headroom_device::images::RgbImage;
use image::Rgb;
use rand::RngExt;

use super::super::random::RandomStream;
use super::canvas::Canvas;
use super::colour::{Colour, luminance, scale};

/// Exposure, colour cast and noise.
#[derive(Clone, Debug)]
pub struct Camera {
    /// Mean and standard deviation of the brightness to aim at, 0 to 1.
    brightness: f32,
    contrast: f32,
    saturation: f32,
    /// Gain of each channel.
    cast: Colour,
    /// Most that noise adds or takes, 0 to 1.
    noise: f32,
}

/// Contrast is raised no further than this, so that flat scenes stay flat.
const MAX_GAIN: f32 = 4.0;

impl Camera {
    /// The ranges give what photographs have. Over the 520 CIFAR-10 images and
    /// 128 photographs of the test data the brightness is 0.46 to 0.49 with a
    /// deviation of 0.13 between images and 0.19 to 0.22 within one, and the
    /// channels of a pixel span 0.13 to 0.15.
    pub fn random(random: &mut RandomStream) -> Self {
        Self {
            brightness: 0.47 + 0.16 * (random.random_range(-1.0..1.0f32) + random.random_range(-1.0..1.0f32)),
            contrast: random.random_range(0.12..0.3),
            saturation: random.random_range(0.25..0.95),
            cast: std::array::from_fn(|_| random.random_range(0.94..1.06)),
            noise: random.random_range(0.0..1.0f32).powi(3) * 0.08,
        }
    }

    /// Averages blocks of `supersampling` squared pixels and exposes them.
    pub fn take(&self, canvas: &Canvas, supersampling: usize, random: &mut RandomStream) -> RgbImage {
        let (height, width) = (canvas.height() / supersampling, canvas.width() / supersampling);
        let share = 1.0 / (supersampling * supersampling) as f32;
        let mut averaged = vec![[0.0f32; 3]; height * width];
        for (row, pixels) in canvas.pixels().chunks_exact(canvas.width()).enumerate() {
            let target = &mut averaged[row / supersampling * width..][..width];
            for (column, pixel) in pixels.iter().enumerate() {
                let cell = &mut target[column / supersampling];
                cell.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += share * value.clamp(-0.5, 1.5));
            }
        }

        let count = averaged.len() as f32;
        let mean = averaged.iter().map(|&colour| luminance(colour)).sum::<f32>() / count;
        let variance = averaged.iter().map(|&colour| (luminance(colour) - mean).powi(2)).sum::<f32>() / count;
        let gain = (self.contrast / variance.sqrt().max(1e-6)).min(MAX_GAIN);

        let mut exposed = averaged.into_iter().map(|colour| self.expose(colour, mean, gain, random));
        RgbImage::from_fn(width as u32, height as u32, |_, _| exposed.next().unwrap_or(Rgb([0; 3])))
    }

    fn expose(&self, colour: Colour, mean: f32, gain: f32, random: &mut RandomStream) -> Rgb<u8> {
        let grey = luminance(colour);
        let brightness = self.brightness + (grey - mean) * gain;
        // Colour grows with the contrast, but less.
        let chroma = colour.map(|value| (value - grey) * self.saturation * gain.sqrt());
        let noise = self.noise * (random.random_range(-1.0..1.0f32) + random.random_range(-1.0..1.0f32)) / 2.0;
        let lit: Colour = std::array::from_fn(|channel| self.cast[channel] * (brightness + chroma[channel]) + noise);
        Rgb(scale(lit.map(shoulder), 255.0).map(|value| value.round() as u8))
    }
}

/// Compresses what is near black and white instead of cutting it off.
fn shoulder(value: f32) -> f32 {
    const KNEE: f32 = 0.1;
    if value < KNEE {
        KNEE * ((value - KNEE) / KNEE).exp()
    } else if value > 1.0 - KNEE {
        1.0 - KNEE * ((1.0 - KNEE - value) / KNEE).exp()
    } else {
        value
    }
}
