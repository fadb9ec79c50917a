//! Resizing with antialiased convolution, as Pillow does it.
//!
//! Shrinking widens the kernel, so that every source pixel counts; the bicubic
//! kernel has a = -0.5. The horizontal pass comes first and its result is
//! rounded to 8 bits, as in Pillow: overshoot next to black and white is clipped
//! in between, so the other order gives other values at such edges. Pillow 13
//! chooses the other order for images much higher than wide; we do not.

use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ImageView, ResizeAlg, ResizeOptions, Resizer as Convolution};
use image::RgbImage;

use super::preprocess::PreprocessError;
use crate::model::description::Interpolation;

/// Resizes RGB images; keeps its buffers between calls.
#[derive(Clone, Debug)]
pub struct Resizer {
    convolution: Convolution,
    options: ResizeOptions,
    /// The image after the horizontal pass, RGB.
    between: Vec<u8>,
}

/// A part of an image, in pixels, that need not fall on whole pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

/// A part of an image, in whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
}

impl Resizer {
    #[must_use]
    pub fn new(interpolation: Interpolation) -> Self {
        let algorithm = match interpolation {
            Interpolation::Nearest => ResizeAlg::Nearest,
            Interpolation::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
            Interpolation::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
            Interpolation::Lanczos => ResizeAlg::Convolution(FilterType::Lanczos3),
        };
        Self {
            convolution: Convolution::new(),
            options: ResizeOptions::new().resize_alg(algorithm),
            between: Vec::new(),
        }
    }

    /// Fills `output` with the `window` of `image`. Pixels around the window
    /// contribute as far as the kernel reaches, as if the whole image had been
    /// resized and then cropped.
    ///
    /// # Errors
    /// If the image or the window is empty, or the window leaves the image.
    pub fn resize_window(
        &mut self,
        image: &RgbImage,
        window: Window,
        output: &mut RgbImage,
    ) -> Result<(), PreprocessError> {
        whole(image)
            .and_then(|source| self.resize(&source, window, output))
            .ok_or_else(|| PreprocessError::invalid_window(image, window))
    }

    /// Fills `output` with the `crop` of `image`. Pixels outside the crop do
    /// not contribute, as if the image had been cropped and then resized.
    ///
    /// # Errors
    /// If the image or the crop is empty, or the crop leaves the image.
    pub fn resize_crop(&mut self, image: &RgbImage, crop: Crop, output: &mut RgbImage) -> Result<(), PreprocessError> {
        let inside = |start: u32, length: u32, side: u32| start.checked_add(length).is_some_and(|end| end <= side);
        let valid = inside(crop.left, crop.width, image.width()) && inside(crop.top, crop.height, image.height());
        valid
            .then(|| {
                let source = whole(image)?;
                let cropped =
                    TypedCroppedImage::from_ref(&source, crop.left, crop.top, crop.width, crop.height).ok()?;
                let all = Window { left: 0.0, top: 0.0, ..crop.window() };
                self.resize(&cropped, all, output)
            })
            .flatten()
            .ok_or_else(|| PreprocessError::invalid_window(image, crop.window()))
    }

    /// `None` if anything is empty or the window leaves the source.
    fn resize(&mut self, source: &impl ImageView<Pixel = U8x3>, window: Window, output: &mut RgbImage) -> Option<()> {
        let Window { left, top, width, height } = window;
        // Negated, so that NaN is refused too.
        if !(width > 0.0 && height > 0.0 && left >= 0.0 && top >= 0.0) {
            return None;
        }
        let (output_width, output_height) = output.dimensions();
        let rows = source.height();
        self.between.resize(3 * output_width as usize * rows as usize, 0);

        let mut between = TypedImage::from_buffer(output_width, rows, &mut self.between).ok()?;
        let horizontal = self.options.crop(left, 0.0, width, f64::from(rows));
        self.convolution.resize_typed(source, &mut between, &horizontal).ok()?;

        let mut output = TypedImage::from_buffer(output_width, output_height, output).ok()?;
        let vertical = self.options.crop(0.0, top, f64::from(output_width), height);
        self.convolution.resize_typed(&between, &mut output, &vertical).ok()
    }
}

impl Crop {
    fn window(self) -> Window {
        let Self { left, top, width, height } = self;
        Window { left: left.into(), top: top.into(), width: width.into(), height: height.into() }
    }
}

fn whole(image: &RgbImage) -> Option<TypedImageRef<'_, U8x3>> {
    TypedImageRef::from_buffer(image.width(), image.height(), image).ok()
}
