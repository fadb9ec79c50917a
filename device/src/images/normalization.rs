//! From interleaved 8-bit RGB to planar normalised f32.

use image::RgbImage;

/// `(value / 255 - mean) / std` of each channel, for all 256 values.
#[derive(Clone, Debug)]
pub struct Normalization {
    table: [[f32; 256]; 3],
}

impl Normalization {
    /// Mean and standard deviation of each channel, for values in 0 to 1.
    #[must_use]
    pub fn new(mean: [f32; 3], std: [f32; 3]) -> Self {
        let table = std::array::from_fn(|channel| {
            std::array::from_fn(|value| (value as f32 / 255.0 - mean[channel]) / std[channel])
        });
        Self { table }
    }

    /// Writes `image` as `[3, height, width]`, mirrored left to right if `mirror`.
    ///
    /// # Panics
    /// If `output` has another length.
    pub fn apply(&self, image: &RgbImage, mirror: bool, output: &mut [f32]) {
        let width = image.width() as usize;
        let area = width * image.height() as usize;
        assert_eq!(output.len(), 3 * area, "planar output of a {width} x {} image", image.height());
        if area == 0 {
            return;
        }
        let rows = image.as_raw().chunks_exact(3 * width);
        for (channel, (plane, table)) in output.chunks_exact_mut(area).zip(&self.table).enumerate() {
            for (row, written) in rows.clone().zip(plane.chunks_exact_mut(width)) {
                let values = row.iter().skip(channel).step_by(3).map(|&value| table[usize::from(value)]);
                if mirror {
                    written.iter_mut().rev().zip(values).for_each(|(to, value)| *to = value);
                } else {
                    written.iter_mut().zip(values).for_each(|(to, value)| *to = value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_planar_and_mirrors_rows() {
        let image = RgbImage::from_raw(2, 1, vec![0, 51, 255, 102, 153, 204]).unwrap();
        let normalization = Normalization::new([0.0, 0.2, 0.5], [1.0, 2.0, 0.5]);
        let mut output = [0.0; 6];
        normalization.apply(&image, false, &mut output);
        let expected = [0.0, 0.4, 0.0, 0.2, 1.0, 0.6];
        for (value, expected) in output.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-6, "{output:?}");
        }
        let mut mirrored = [0.0; 6];
        normalization.apply(&image, true, &mut mirrored);
        for plane in 0..3 {
            assert_eq!(mirrored[2 * plane], output[2 * plane + 1]);
            assert_eq!(mirrored[2 * plane + 1], output[2 * plane]);
        }
    }
}
