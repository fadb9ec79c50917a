//! DINO's multi-crop: random views of one image.
//!
//! Global views cover much of the image, local ones little; all are resized to
//! the model's input, since a Vision Transformer with fixed positions takes one
//! size only (DINO itself keeps local views small). No colour changes.
//! Crops follow torchvision's `RandomResizedCrop`. DINO: arXiv 2104.14294.

use headroom_device::images::{Crop, Normalization, Preprocessor, Resizer, RgbImage};
use headroom_device::model::description::ImageInput;
use rand::RngExt;

use super::CalibrationError;
use super::random::{Purpose, RandomStream, stream};
use crate::importance::Views;

/// Tries for a crop of the drawn area and aspect that fits into the image.
const CROP_TRIES: usize = 10;

/// The part of an image's area that a crop covers: least and most, 0 to 1.
pub type CropScale = (f64, f64);

/// How views are drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiCrop {
    /// Number of global views.
    pub global: usize,
    /// Number of local views.
    pub local: usize,
    pub global_scale: CropScale,
    pub local_scale: CropScale,
    /// Least and most width per height of a crop.
    pub aspect: (f64, f64),
    /// How likely a view is mirrored left to right, 0 to 1.
    pub mirror: f64,
}

impl Default for MultiCrop {
    /// 2 global views of 25 to 100 % of the area, 10 local ones of 5 to 25 %,
    /// aspect 3/4 to 4/3, half of them mirrored.
    fn default() -> Self {
        Self {
            global: 2,
            local: 10,
            global_scale: (0.25, 1.0),
            local_scale: (0.05, 0.25),
            aspect: (3.0 / 4.0, 4.0 / 3.0),
            mirror: 0.5,
        }
    }
}

impl MultiCrop {
    /// Views of one image.
    #[must_use]
    pub fn views(&self) -> usize {
        self.global + self.local
    }

    fn check(&self) -> Result<(), CalibrationError> {
        let invalid = |name, found, expected| Err(CalibrationError::InvalidMultiCrop { name, found, expected });
        if self.global == 0 || self.views() < 2 {
            let found = format!("{} global and {} local", self.global, self.local);
            return invalid("the number of views", found, "at least 1 global view and 2 in all");
        }
        for (name, (least, most)) in [("global_scale", self.global_scale), ("local_scale", self.local_scale)] {
            if !(0.0 < least && least <= most && most <= 1.0) {
                return invalid(name, format!("{least} to {most}"), "a rising range within 0 to 1");
            }
        }
        let (least, most) = self.aspect;
        if !(0.0 < least && least <= most && most.is_finite()) {
            return invalid("aspect", format!("{least} to {most}"), "a rising range of positive numbers");
        }
        if !(0.0..=1.0).contains(&self.mirror) {
            return invalid("mirror", self.mirror.to_string(), "0 to 1");
        }
        Ok(())
    }
}

/// Makes views; keeps its buffers between images.
#[derive(Clone, Debug)]
pub struct ViewMaker {
    multi_crop: MultiCrop,
    seed: u64,
    resizer: Resizer,
    normalization: Normalization,
    resized: RgbImage,
}

impl ViewMaker {
    /// Views for the model that takes `input`.
    ///
    /// # Errors
    /// If the settings or the image input are unusable.
    pub fn new(input: &ImageInput, multi_crop: MultiCrop, seed: u64) -> Result<Self, CalibrationError> {
        multi_crop.check()?;
        Preprocessor::new(input)?; // The same demands on the input.
        Ok(Self {
            multi_crop,
            seed,
            resizer: Resizer::new(input.interpolation),
            normalization: Normalization::new(input.mean, input.std),
            resized: RgbImage::new(input.width as u32, input.height as u32),
        })
    }

    /// The views of image number `index`; the global ones come first. They
    /// depend on the seed, the number and the image alone.
    ///
    /// # Errors
    /// If the image has no pixels.
    pub fn views(&mut self, index: u64, image: &RgbImage) -> Result<Views, CalibrationError> {
        let mut random = stream(self.seed, Purpose::Views, index);
        let (global, views) = (self.multi_crop.global, self.multi_crop.views());
        let per_view = self.resized.as_raw().len();
        let mut pixels = vec![0.0; views * per_view];
        for (view, pixels) in pixels.chunks_exact_mut(per_view).enumerate() {
            let scale = if view < global { self.multi_crop.global_scale } else { self.multi_crop.local_scale };
            let crop = random_crop(&mut random, image.dimensions(), scale, self.multi_crop.aspect);
            let mirror = random.random_bool(self.multi_crop.mirror);
            self.resizer.resize_crop(image, crop, &mut self.resized)?;
            self.normalization.apply(&self.resized, mirror, pixels);
        }
        Ok(Views { pixels, views, global })
    }
}

/// A crop whose share of the area is uniform in `scale` and whose aspect is
/// uniform in the logarithm; where none fits, the largest centred crop of a
/// permitted aspect.
fn random_crop(
    random: &mut RandomStream,
    (width, height): (u32, u32),
    scale: CropScale,
    (least_aspect, most_aspect): (f64, f64),
) -> Crop {
    let area = f64::from(width) * f64::from(height);
    for _ in 0..CROP_TRIES {
        let target = area * random.random_range(scale.0..=scale.1);
        let aspect = random.random_range(least_aspect.ln()..=most_aspect.ln()).exp();
        let crop_width = (target * aspect).sqrt().round_ties_even() as u32;
        let crop_height = (target / aspect).sqrt().round_ties_even() as u32;
        if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
            return Crop {
                left: random.random_range(0..=width - crop_width),
                top: random.random_range(0..=height - crop_height),
                width: crop_width,
                height: crop_height,
            };
        }
    }
    let aspect = (f64::from(width) / f64::from(height)).clamp(least_aspect, most_aspect);
    let crop_width = ((f64::from(height) * aspect).round() as u32).clamp(1, width.max(1));
    let crop_height = ((f64::from(width) / aspect).round() as u32).clamp(1, height.max(1));
    Crop {
        left: width.saturating_sub(crop_width) / 2,
        top: height.saturating_sub(crop_height) / 2,
        width: crop_width,
        height: crop_height,
    }
}

#[cfg(test)]
mod tests {
    use headroom_device::model::description::{CropMode, Interpolation};
    use image::Rgb;
    use proptest::prelude::*;

    use super::*;

    fn input(height: usize, width: usize) -> ImageInput {
        ImageInput {
            height,
            width,
            channels: 3,
            patch: 4,
            mean: [0.2, 0.4, 0.6],
            std: [0.5, 0.25, 0.125],
            interpolation: Interpolation::Bicubic,
            crop_fraction: 0.9,
            crop_mode: CropMode::Center,
        }
    }

    fn picture() -> RgbImage {
        RgbImage::from_fn(50, 30, |x, y| Rgb([(x * 5) as u8, (y * 8) as u8, (x * y % 256) as u8]))
    }

    #[test]
    fn the_default_is_two_global_and_ten_local_views() {
        let mut maker = ViewMaker::new(&input(16, 24), MultiCrop::default(), 1).unwrap();
        let views = maker.views(0, &picture()).unwrap();
        assert_eq!((views.views, views.global), (12, 2));
        assert_eq!(views.pixels.len(), 12 * 3 * 16 * 24);
    }

    #[test]
    fn an_image_has_its_own_stream_whatever_was_made_before() {
        let mut maker = ViewMaker::new(&input(8, 8), MultiCrop::default(), 1).unwrap();
        let first = maker.views(3, &picture()).unwrap();
        let other = maker.views(4, &picture()).unwrap();
        assert_ne!(first, other);
        assert_eq!(maker.views(3, &picture()).unwrap(), first);
        let mut other_seed = ViewMaker::new(&input(8, 8), MultiCrop::default(), 2).unwrap();
        assert_ne!(other_seed.views(3, &picture()).unwrap(), first);
    }

    #[test]
    fn views_of_a_uniform_image_are_uniform() {
        let mut maker = ViewMaker::new(&input(8, 8), MultiCrop::default(), 1).unwrap();
        let image = RgbImage::from_pixel(40, 33, Rgb([51, 102, 153]));
        let views = maker.views(0, &image).unwrap();
        assert!(views.pixels.iter().all(|value| value.abs() < 1e-5), "each colour equals its mean");
    }

    #[test]
    fn half_of_the_views_are_mirrored() {
        // Brightness rises to the right, so a mirrored view falls.
        let image = RgbImage::from_fn(64, 64, |x, _| Rgb([x as u8 * 4; 3]));
        let mut maker = ViewMaker::new(&input(8, 8), MultiCrop::default(), 1).unwrap();
        let mut mirrored = 0;
        for index in 0..50 {
            let views = maker.views(index, &image).unwrap();
            mirrored += views.pixels.chunks_exact(3 * 64).filter(|view| view[0] > view[7]).count();
        }
        assert!((240..=360).contains(&mirrored), "{mirrored} of 600");
    }

    #[test]
    fn areas_are_uniform_in_the_scale() {
        let mut random = stream(0, Purpose::Views, 0);
        for (scale, mean) in [((0.25, 1.0), 0.55), ((0.05, 0.25), 0.15)] {
            let areas: Vec<f64> = (0..2000)
                .map(|_| random_crop(&mut random, (400, 400), scale, (0.75, 4.0 / 3.0)))
                .map(|crop| f64::from(crop.width * crop.height) / 160_000.0)
                .collect();
            assert!(areas.iter().all(|area| (scale.0 - 0.01..=scale.1 + 0.01).contains(area)));
            // Below the middle of the global range: large areas fit at few aspects.
            let found = areas.iter().sum::<f64>() / 2000.0;
            assert!((found - mean).abs() < 0.06, "{scale:?}: mean area {found}");
        }
    }

    #[test]
    fn unusable_settings_are_named() {
        let make = |multi_crop| ViewMaker::new(&input(8, 8), multi_crop, 0).unwrap_err().to_string();
        let default = MultiCrop::default();
        let message = make(MultiCrop { local_scale: (0.5, 0.2), ..default.clone() });
        assert_eq!(
            message,
            "invalid multi-crop settings: local_scale is 0.5 to 0.2, expected a rising range within 0 to 1"
        );
        assert!(make(MultiCrop { global: 0, ..default.clone() }).contains("0 global"));
        assert!(make(MultiCrop { aspect: (0.0, 1.0), ..default.clone() }).contains("aspect"));
        assert!(make(MultiCrop { mirror: f64::NAN, ..default }).contains("mirror"));
    }

    proptest! {
        #[test]
        fn crops_lie_within_the_image(width in 1..300u32, height in 1..300u32, index in any::<u64>()) {
            let mut random = stream(9, Purpose::Views, index);
            for scale in [(0.25, 1.0), (0.05, 0.25)] {
                let crop = random_crop(&mut random, (width, height), scale, (0.75, 4.0 / 3.0));
                prop_assert!(crop.width >= 1 && crop.left + crop.width <= width);
                prop_assert!(crop.height >= 1 && crop.top + crop.height <= height);
            }
        }
    }
}
