//! Frames as a camera gives them, back from a model's normalised input.

use headroom_device::model::description::ImageInput;

/// The 8-bit RGB frames, `[images, height, width, 3]`, whose normalised form `pixels` `[images, 3, height, width]` is.
///
/// Exact: normalisation is one value for each of the 256 of a channel, and rounding finds it again.
#[must_use]
pub fn frames(pixels: &[f32], image: &ImageInput) -> Vec<u8> {
    let area = image.height * image.width;
    let mut frames = vec![0; pixels.len()];
    for (pixels, frame) in pixels.chunks_exact(3 * area).zip(frames.chunks_exact_mut(3 * area)) {
        for (channel, plane) in pixels.chunks_exact(area).enumerate() {
            let (mean, std) = (image.mean[channel], image.std[channel]);
            let values = frame.iter_mut().skip(channel).step_by(3);
            // Out of range is only what no frame gave.
            values.zip(plane).for_each(|(value, pixel)| *value = ((pixel * std + mean) * 255.0).round() as u8);
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use headroom_device::images::Preprocessor;
    use headroom_device::model::description::{CropMode, Interpolation};
    use image::{Rgb, RgbImage};

    use super::*;

    #[test]
    fn every_value_of_every_channel_is_found_again() {
        for (mean, std) in [([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), ([0.5; 3], [0.5; 3]), ([0.0; 3], [1.0; 3])]
        {
            let input = ImageInput {
                height: 16,
                width: 16,
                channels: 3,
                patch: 4,
                mean,
                std,
                interpolation: Interpolation::Bicubic,
                crop_fraction: 1.0,
                crop_mode: CropMode::Center,
            };
            let image = RgbImage::from_fn(16, 16, |x, y| {
                let value = (16 * y + x) as u8;
                Rgb([value, 255 - value, value ^ 0x55])
            });
            let pixels = Preprocessor::new(&input).unwrap().evaluation(&image).unwrap();
            assert_eq!(frames(&pixels, &input), image.as_raw().as_slice());
        }
    }
}
