//! A model's evaluation preprocessing.
//!
//! The rules and their rounding are timm's (`transforms_imagenet_eval` with a
//! centre crop, on torchvision's `Resize` and `CenterCrop`):
//! 1. target = floor(input size / crop fraction), for height and width;
//! 2. equal targets: the shorter side becomes the target and the longer one
//!    floor(target x long / short); unequal ones: the image is scaled, each
//!    side rounded, until it just covers both targets; with `CropMode::Squash`
//!    each side becomes its target;
//! 3. a centre crop of the input size, its corner rounded half to even;
//! 4. `(value / 255 - mean) / std`.
//!
//! Only the part that the crop keeps is computed, so the memory needed does not
//! depend on the aspect ratio.

use image::RgbImage;

use super::normalization::Normalization;
use super::resize::{Resizer, Window};
use crate::model::description::{CropMode, ImageInput};

/// Turns images into a model's input; keeps its buffers between calls.
#[derive(Clone, Debug)]
pub struct Preprocessor {
    /// Of the model's input, in pixels.
    height: u32,
    width: u32,
    /// What the resized image covers before the crop: height and width.
    targets: (u32, u32),
    crop_mode: CropMode,
    resizer: Resizer,
    normalization: Normalization,
    resized: RgbImage,
}

/// Why an image or a description of one cannot be preprocessed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PreprocessError {
    #[error("the model's image input has {name} = {value}, expected {expected}")]
    InvalidInput { name: &'static str, value: String, expected: &'static str },
    #[error("cannot resize {} x {} pixels at ({}, {}) of a {image_width} x {image_height} image", window.width, window.height, window.left, window.top)]
    InvalidWindow { window: Window, image_width: u32, image_height: u32 },
}

impl PreprocessError {
    pub(super) fn invalid_window(image: &RgbImage, window: Window) -> Self {
        Self::InvalidWindow { window, image_width: image.width(), image_height: image.height() }
    }
}

/// Largest height or width of a model's input, in pixels.
const MAX_SIDE: usize = 8192;

impl Preprocessor {
    /// The preprocessing that `input` describes.
    ///
    /// # Errors
    /// If a side is 0 or above 8192, there are not 3 channels, the crop
    /// fraction is outside 0.05 to 1, or the mean or the standard deviation
    /// cannot be used.
    pub fn new(input: &ImageInput) -> Result<Self, PreprocessError> {
        let invalid = |name, value: String, expected| Err(PreprocessError::InvalidInput { name, value, expected });
        for (name, side) in [("height", input.height), ("width", input.width)] {
            if !(1..=MAX_SIDE).contains(&side) {
                return invalid(name, side.to_string(), "1 to 8192");
            }
        }
        if input.channels != 3 {
            return invalid("channels", input.channels.to_string(), "3");
        }
        if !(0.05..=1.0).contains(&input.crop_fraction) {
            return invalid("crop_fraction", input.crop_fraction.to_string(), "0.05 to 1");
        }
        if !input.mean.iter().all(|mean| mean.is_finite()) {
            return invalid("mean", format!("{:?}", input.mean), "finite numbers");
        }
        if !input.std.iter().all(|std| std.is_normal() && *std > 0.0) {
            return invalid("std", format!("{:?}", input.std), "positive numbers");
        }
        let (height, width) = (input.height as u32, input.width as u32);
        Ok(Self {
            height,
            width,
            targets: targets(height, width, input.crop_fraction),
            crop_mode: input.crop_mode,
            resizer: Resizer::new(input.interpolation),
            normalization: Normalization::new(input.mean, input.std),
            resized: RgbImage::new(width, height),
        })
    }

    /// Values of one preprocessed image: `3 * height * width`.
    #[must_use]
    pub fn pixel_count(&self) -> usize {
        3 * self.height as usize * self.width as usize
    }

    /// Height and width that an image must have for the resize to change nothing.
    #[must_use]
    pub fn native_size(&self) -> (u32, u32) {
        self.targets
    }

    /// The model's input for `image`, `[3, height, width]`.
    ///
    /// # Errors
    /// If the image has no pixels.
    pub fn evaluation(&mut self, image: &RgbImage) -> Result<Vec<f32>, PreprocessError> {
        let mut pixels = vec![0.0; self.pixel_count()];
        self.evaluation_into(image, &mut pixels)?;
        Ok(pixels)
    }

    /// As [`Preprocessor::evaluation`], into a slice.
    ///
    /// # Errors
    /// If the image has no pixels.
    ///
    /// # Panics
    /// If `pixels` has not [`Preprocessor::pixel_count`] values.
    pub fn evaluation_into(&mut self, image: &RgbImage, pixels: &mut [f32]) -> Result<(), PreprocessError> {
        self.evaluation_frame(image)?;
        self.normalization.apply(&self.resized, false, pixels);
        Ok(())
    }

    /// The frame that [`Preprocessor::evaluation`] normalises: what an integer model takes.
    ///
    /// # Errors
    /// If the image has no pixels.
    pub fn evaluation_frame(&mut self, image: &RgbImage) -> Result<&RgbImage, PreprocessError> {
        let window = self.window(image.height(), image.width());
        self.resizer.resize_window(image, window, &mut self.resized)?;
        Ok(&self.resized)
    }

    /// The part of an image that the centre crop keeps.
    fn window(&self, image_height: u32, image_width: u32) -> Window {
        let (resized_height, resized_width) = match self.crop_mode {
            CropMode::Center => resized_size((image_height, image_width), self.targets),
            CropMode::Squash => (self.targets.0.into(), self.targets.1.into()),
        };
        let (top, height) = kept_span(image_height, resized_height, self.height);
        let (left, width) = kept_span(image_width, resized_width, self.width);
        Window { left, top, width, height }
    }
}

/// Step 1.
fn targets(height: u32, width: u32, crop_fraction: f32) -> (u32, u32) {
    // The shortest decimal that gives the f32 is the number of the config: with
    // the f32 itself, 224 / 0.8 would be just below 280.
    let crop_fraction: f64 = crop_fraction.to_string().parse().unwrap_or(f64::from(crop_fraction));
    let target = |side: u32| (f64::from(side) / crop_fraction).floor() as u32;
    (target(height), target(width))
}

/// Step 2: height and width of the whole resized image.
fn resized_size(image: (u32, u32), targets: (u32, u32)) -> (u64, u64) {
    let (height, width) = (u64::from(image.0), u64::from(image.1));
    if targets.0 == targets.1 {
        let target = u64::from(targets.0);
        let long = |long: u64, short: u64| target * long / short.max(1);
        return if width <= height { (long(height, width), target) } else { (target, long(width, height)) };
    }
    let ratio = (height as f64 / f64::from(targets.0)).min(width as f64 / f64::from(targets.1));
    let side = |side: u64| (side as f64 / ratio).round_ties_even() as u64;
    (side(height), side(width))
}

/// Step 3 along one side: start and length of the crop in pixels of the image.
fn kept_span(image: u32, resized: u64, crop: u32) -> (f64, f64) {
    let scale = f64::from(image) / resized as f64;
    let start = (resized.saturating_sub(u64::from(crop)) as f64 / 2.0).round_ties_even() * scale;
    let length = f64::from(crop) * scale;
    // Rounding of the products must not carry the end past the image.
    (start, length.min(f64::from(image) - start))
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;
    use crate::model::description::Interpolation;

    fn input(height: usize, width: usize, crop_fraction: f32, interpolation: Interpolation) -> ImageInput {
        ImageInput {
            height,
            width,
            channels: 3,
            patch: 4,
            mean: [0.0; 3],
            std: [1.0; 3],
            interpolation,
            crop_fraction,
            crop_mode: CropMode::Center,
        }
    }

    /// A pattern that wraps, so that it has hard edges.
    fn pattern(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            Rgb([0, 1, 2].map(|c| ((x * x * 3 + y * y * 2 + x * y * (c + 1) + c * 40) / 16 % 256) as u8))
        })
    }

    /// What Pillow 13.0 gives for the pattern: four pixels on the diagonal of
    /// the result, and the sum of each channel.
    struct Expected {
        image: (u32, u32),
        size: (usize, usize),
        crop_fraction: f32,
        interpolation: Interpolation,
        crop_mode: CropMode,
        diagonal: [[u8; 3]; 4],
        sums: [u32; 3],
    }

    const PILLOW: [Expected; 8] = [
        Expected {
            image: (61, 43),
            size: (16, 16),
            crop_fraction: 0.875,
            interpolation: Interpolation::Bicubic,
            crop_mode: CropMode::Center,
            diagonal: [[23, 28, 32], [145, 169, 193], [121, 184, 174], [216, 62, 198]],
            sums: [32399, 32464, 32605],
        },
        Expected {
            image: (29, 70),
            size: (16, 16),
            crop_fraction: 0.9,
            interpolation: Interpolation::Bilinear,
            crop_mode: CropMode::Center,
            diagonal: [[55, 58, 61], [139, 157, 176], [21, 65, 109], [215, 37, 115]],
            sums: [33847, 33648, 33230],
        },
        Expected {
            image: (61, 43),
            size: (12, 20),
            crop_fraction: 0.8,
            interpolation: Interpolation::Bicubic,
            crop_mode: CropMode::Center,
            diagonal: [[16, 21, 26], [124, 145, 166], [101, 157, 224], [145, 108, 196]],
            sums: [29601, 30080, 30572],
        },
        Expected {
            image: (50, 37),
            size: (24, 24),
            crop_fraction: 0.95,
            interpolation: Interpolation::Lanczos,
            crop_mode: CropMode::Center,
            diagonal: [[7, 10, 13], [78, 92, 106], [41, 50, 92], [42, 132, 251]],
            sums: [67470, 69034, 70348],
        },
        Expected {
            image: (10, 9),
            size: (16, 16),
            crop_fraction: 1.0,
            interpolation: Interpolation::Bicubic,
            crop_mode: CropMode::Center,
            diagonal: [[0, 2, 5], [3, 6, 9], [11, 16, 20], [26, 33, 40]],
            sums: [2103, 3003, 3917],
        },
        Expected {
            image: (16, 16),
            size: (16, 16),
            crop_fraction: 1.0,
            interpolation: Interpolation::Bicubic,
            crop_mode: CropMode::Center,
            diagonal: [[0, 2, 5], [9, 13, 17], [37, 46, 55], [84, 100, 117]],
            sums: [6996, 8528, 10076],
        },
        Expected {
            image: (61, 43),
            size: (16, 16),
            crop_fraction: 1.0,
            interpolation: Interpolation::Bicubic,
            crop_mode: CropMode::Squash,
            diagonal: [[1, 3, 6], [122, 143, 163], [207, 92, 78], [159, 124, 95]],
            sums: [30386, 30566, 30956],
        },
        Expected {
            image: (29, 70),
            size: (20, 12),
            crop_fraction: 0.875,
            interpolation: Interpolation::Bilinear,
            crop_mode: CropMode::Squash,
            diagonal: [[2, 5, 8], [89, 102, 116], [62, 108, 154], [186, 81, 183]],
            sums: [27434, 27942, 28435],
        },
    ];

    #[test]
    fn agrees_with_pillow_within_two_units() {
        for expected in &PILLOW {
            let (height, width) = expected.size;
            let input = ImageInput {
                crop_mode: expected.crop_mode,
                ..input(height, width, expected.crop_fraction, expected.interpolation)
            };
            let image = pattern(expected.image.0, expected.image.1);
            let pixels = Preprocessor::new(&input).unwrap().evaluation(&image).unwrap();
            for (channel, plane) in pixels.chunks_exact(height * width).enumerate() {
                for (step, diagonal) in expected.diagonal.iter().enumerate() {
                    let at = (step * (height - 1) / 3) * width + step * (width - 1) / 3;
                    let difference = (plane[at] * 255.0 - f32::from(diagonal[channel])).abs();
                    assert!(difference < 2.01, "{:?}: {difference} at step {step}", expected.image);
                }
                let sum: f32 = plane.iter().sum::<f32>() * 255.0;
                let mean_difference = (sum - expected.sums[channel] as f32).abs() / (height * width) as f32;
                assert!(mean_difference < 0.1, "{:?}: mean differs by {mean_difference}", expected.image);
            }
        }
    }

    #[test]
    fn an_image_of_the_native_size_is_only_cropped() {
        let mut preprocessor = Preprocessor::new(&input(8, 8, 0.8, Interpolation::Lanczos)).unwrap();
        assert_eq!(preprocessor.native_size(), (10, 10));
        let image = pattern(10, 10);
        let pixels = preprocessor.evaluation(&image).unwrap();
        for y in 0..8u32 {
            for x in 0..8u32 {
                let expected = f32::from(image.get_pixel(x + 1, y + 1)[0]) / 255.0;
                assert_eq!(pixels[(y * 8 + x) as usize], expected);
            }
        }
    }

    #[test]
    fn targets_follow_the_decimal_crop_fraction() {
        for (side, crop_fraction, target) in [(224, 0.8, 280), (224, 0.875, 256), (224, 0.9, 248), (288, 0.96, 300)] {
            assert_eq!(targets(side, side, crop_fraction), (target, target));
        }
    }

    #[test]
    fn extreme_aspect_ratios_need_little_memory() {
        let mut preprocessor = Preprocessor::new(&input(32, 32, 0.9, Interpolation::Bicubic)).unwrap();
        for (width, height) in [(1, 60_000), (60_000, 1), (1, 1)] {
            let image = RgbImage::from_pixel(width, height, Rgb([255, 0, 51]));
            let pixels = preprocessor.evaluation(&image).unwrap();
            assert!(pixels[..1024].iter().all(|&value| value == 1.0), "{width} x {height}");
            assert!(pixels[1024..2048].iter().all(|&value| value == 0.0), "{width} x {height}");
        }
    }

    #[test]
    fn an_image_without_pixels_is_an_error() {
        let mut preprocessor = Preprocessor::new(&input(4, 4, 1.0, Interpolation::Nearest)).unwrap();
        for (width, height) in [(0, 0), (0, 3), (3, 0)] {
            let error = preprocessor.evaluation(&RgbImage::new(width, height)).unwrap_err();
            assert!(error.to_string().ends_with(&format!("of a {width} x {height} image")), "{error}");
        }
    }

    #[test]
    fn unusable_inputs_are_named() {
        let good = input(4, 4, 1.0, Interpolation::Bilinear);
        let cases: [(ImageInput, &str); 6] = [
            (ImageInput { height: 0, ..good.clone() }, "height = 0, expected 1 to 8192"),
            (ImageInput { width: 9000, ..good.clone() }, "width = 9000, expected 1 to 8192"),
            (ImageInput { channels: 1, ..good.clone() }, "channels = 1, expected 3"),
            (ImageInput { crop_fraction: f32::NAN, ..good.clone() }, "crop_fraction = NaN, expected 0.05 to 1"),
            (ImageInput { std: [1.0, 0.0, 1.0], ..good.clone() }, "std = [1.0, 0.0, 1.0], expected positive numbers"),
            (ImageInput { mean: [f32::NAN; 3], ..good }, "mean = [NaN, NaN, NaN], expected finite numbers"),
        ];
        for (input, expected) in cases {
            let message = Preprocessor::new(&input).unwrap_err().to_string();
            assert_eq!(message, format!("the model's image input has {expected}"));
        }
    }
}
