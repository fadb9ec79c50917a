//! Where calibration images come from.

use std::num::NonZeroUsize;
use std::path::Path;

use headroom_device::images::{ImageError, Preprocessor, RgbImage};
use headroom_device::model::description::ImageInput;

use super::{CalibrationError, CalibrationEvent, ImageFolder, ProceduralImages};

/// A numbered set of images.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ImageSource {
    /// Files.
    Folder(ImageFolder),
    /// Images made on demand.
    Procedural(ProceduralImages),
}

/// What came of loading one image.
#[derive(Debug)]
pub struct Loaded {
    /// `None` if nothing that could stand here is readable.
    pub image: Option<RgbImage>,
    /// Files that could not be read.
    pub skipped: Vec<ImageError>,
}

impl ImageSource {
    /// The images of a folder; see [`ImageFolder::open`].
    ///
    /// # Errors
    /// If the path cannot be opened, holds no images, or none can be read.
    pub fn folder(
        path: &Path,
        limit: Option<NonZeroUsize>,
        seed: u64,
        events: &mut dyn FnMut(CalibrationEvent),
    ) -> Result<Self, CalibrationError> {
        ImageFolder::open(path, limit, seed, events).map(Self::Folder)
    }

    /// `count` images made from `seed`, of the size at which the model's
    /// evaluation preprocessing has nothing to resize.
    ///
    /// # Errors
    /// If the image input is unusable.
    pub fn procedural(count: NonZeroUsize, seed: u64, input: &ImageInput) -> Result<Self, CalibrationError> {
        let (height, width) = Preprocessor::new(input)?.native_size();
        Ok(Self::Procedural(ProceduralImages::new(seed, count, height, width)))
    }

    /// The first `count` images of a fair division, which takes its images
    /// evenly from all parts of a folder, and the others, if there are any.
    #[must_use]
    pub fn split(self, count: usize) -> (Self, Option<Self>) {
        let others = self.count().saturating_sub(count);
        if others == 0 {
            return (self, None);
        }
        match self {
            Self::Folder(folder) => {
                let (chosen, others) = folder.split(count);
                (Self::Folder(chosen), Some(Self::Folder(others)))
            }
            Self::Procedural(images) => {
                let (chosen, others) = images.split(count);
                (Self::Procedural(chosen), others.map(Self::Procedural))
            }
        }
    }

    /// The number of images, unreadable ones included.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::Folder(folder) => folder.count(),
            Self::Procedural(images) => images.count(),
        }
    }

    /// Loads image `index`, which is below [`ImageSource::count`].
    #[must_use]
    pub fn load(&self, index: usize) -> Loaded {
        match self {
            Self::Folder(folder) => folder.load(index),
            Self::Procedural(images) => Loaded { image: Some(images.image(index as u64)), skipped: Vec::new() },
        }
    }
}
