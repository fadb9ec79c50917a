//! Frames as a camera gives them, back from a model's normalised input.

use crate::model::description::ImageInput;

/// The 8-bit RGB frames, `[images, height, width, 3]`, whose normalised form `pixels` `[images, 3, height, width]` is.
///
/// Exact where the pixels came from a frame: normalisation is one value for each of the 256 of a channel, and rounding
/// finds it again. A pixel between two of them becomes the nearer one, one beyond all of them the last one, and one that
/// is no number 0.
#[must_use]
pub fn frames(pixels: &[f32], image: &ImageInput) -> Vec<u8> {
    let mut frames = vec![0; pixels.len()];
    write_frames(pixels, image, &mut frames);
    frames
}

/// As [`frames`], into a slice of as many bytes as there are pixels.
pub fn write_frames(pixels: &[f32], image: &ImageInput, frames: &mut [u8]) {
    let area = image.height * image.width;
    for (pixels, frame) in pixels.chunks_exact(3 * area).zip(frames.chunks_exact_mut(3 * area)) {
        for (channel, plane) in pixels.chunks_exact(area).enumerate() {
            let (mean, std) = (image.mean[channel], image.std[channel]);
            let values = frame.iter_mut().skip(channel).step_by(3);
            // The conversion of a float to an integer saturates.
            values.zip(plane).for_each(|(value, pixel)| *value = ((pixel * std + mean) * 255.0).round() as u8);
        }
    }
}

#[cfg(all(test, feature = "images"))]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;
    use crate::images::Preprocessor;
    use crate::model::description::{CropMode, Interpolation};

    fn input(mean: [f32; 3], std: [f32; 3], side: usize) -> ImageInput {
        ImageInput {
            height: side,
            width: side,
            channels: 3,
            patch: 4,
            mean,
            std,
            interpolation: Interpolation::Bicubic,
            crop_fraction: 1.0,
            crop_mode: CropMode::Center,
        }
    }

    #[test]
    fn every_value_of_every_channel_is_found_again() {
        for (mean, std) in [([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), ([0.5; 3], [0.5; 3]), ([0.0; 3], [1.0; 3])]
        {
            let input = input(mean, std, 16);
            let image = RgbImage::from_fn(16, 16, |x, y| {
                let value = (16 * y + x) as u8;
                Rgb([value, 255 - value, value ^ 0x55])
            });
            let pixels = Preprocessor::new(&input).unwrap().evaluation(&image).unwrap();
            assert_eq!(frames(&pixels, &input), image.as_raw().as_slice());
        }
    }

    #[test]
    fn what_no_frame_gave_becomes_what_is_nearest() {
        let input = input([0.0, 0.5, 0.5], [1.0, 0.5, 0.5], 1);
        assert_eq!(frames(&[100.4 / 255.0, 7.0, -7.0], &input), [100, 255, 0]);
        assert_eq!(frames(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY], &input), [0, 255, 0]);
    }
}
