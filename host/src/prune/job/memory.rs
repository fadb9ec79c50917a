//! Whether the devices have room for a stage, and how many images go through the model together.

use super::super::PruneError;
use super::super::images::JobImages;
use super::Job;
use crate::embedder::JudgedImages;
use crate::embedder::gpu::IN_FLIGHT;
use crate::executor::ChosenDevices;
use crate::executor::memory::{self, Held, largest_batch, with_margin};

/// Images that a GPU is given together where it has room and nothing else is asked for.
const IMAGES_TOGETHER: usize = 64;

/// What of the command line makes a stage need less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The images that go through the model together.
    Batch,
    /// All images, whose tokens are held at the same time.
    ImagesLimit,
    /// Neither: one image alone is too much.
    ImageSize,
}

impl Job<'_> {
    /// Refuses a stage that a GPU has no room for.
    pub(super) fn check_memory(&self, stage: &'static str, held: Held, remedy: Remedy) -> Result<(), PruneError> {
        match self.free() {
            Some(free) => fits(stage, self.needed(held), free, remedy),
            None => Ok(()),
        }
    }

    /// For importance `--batch`, or the most that a GPU has room for; `None` leaves it to the CPU.
    pub(super) fn images_together(&self) -> Result<Option<usize>, PruneError> {
        match self.free() {
            Some(free) => {
                let held = |images| Held::Gradients { images };
                self.fitting("importance", free, self.checkpoint.parameters(), held).map(Some)
            }
            None => Ok(self.options.batch.map(|images| images as usize)),
        }
    }

    /// Images that sub-networks are judged by together on a GPU: `--batch`, or the most that there is room for.
    fn judged_together(&self, stage: &'static str) -> Result<usize, PruneError> {
        let held = |images| Held::Embeddings { images, sub_networks: IN_FLIGHT };
        match self.free() {
            // A part of it is for pixels.
            // The model is there already.
            Some(free) => self.fitting(stage, free - free / memory::PART_FOR_PIXELS, 0, held),
            None => Ok(self.options.batch.map_or(IMAGES_TOGETHER, |images| images as usize)),
        }
    }

    /// The images that sub-networks are judged by in a stage, by `judges`.
    pub(super) fn judged_images<'a>(
        &self,
        judges: &ChosenDevices,
        stage: &'static str,
        images: &JobImages,
        pixels: &'a [f32],
    ) -> Result<JudgedImages<'a>, PruneError> {
        let (pixels_per_image, embed_dim) = (images.pixels_per_image(), self.checkpoint.description.embed_dim);
        let together = if judges.gpus.is_empty() { 1 } else { self.judged_together(stage)? };
        Ok(JudgedImages { pixels, pixels_per_image, embed_dim, together })
    }

    /// With so many parameters still to be loaded.
    fn fitting(
        &self,
        stage: &'static str,
        free: u64,
        parameters: u64,
        held: impl Fn(usize) -> Held,
    ) -> Result<usize, PruneError> {
        let needed = |images| memory::needed(&self.checkpoint.description, parameters, held(images));
        if let Some(images) = self.options.batch.map(|images| images as usize) {
            return fits(stage, needed(images), free, Remedy::Batch).map(|()| images);
        }
        match largest_batch(free, IMAGES_TOGETHER, needed) {
            Some(images) => Ok(images),
            None => fits(stage, needed(1), free, Remedy::ImageSize).map(|()| 1),
        }
    }

    /// Free bytes on the GPU that has the fewest.
    fn free(&self) -> Option<u64> {
        self.devices.devices.iter().filter_map(memory::free).min()
    }

    fn needed(&self, held: Held) -> u64 {
        memory::needed(&self.checkpoint.description, self.checkpoint.parameters(), held)
    }
}

fn fits(stage: &'static str, needed: u64, free: u64, remedy: Remedy) -> Result<(), PruneError> {
    let needed = with_margin(needed);
    if needed <= free { Ok(()) } else { Err(PruneError::DeviceMemory { stage, needed, free, remedy }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_does_not_fit_says_what_it_needs_and_what_helps() {
        assert!(fits("importance", 5_000_000, 5_500_000, Remedy::Batch).is_ok());
        let hint = |remedy| {
            let error = fits("importance", 5_100_000, 5_500_000, remedy).unwrap_err();
            assert_eq!(error.to_string(), "importance needs 5.6 MB on the GPU, which has 5.5 MB free");
            error.hint().unwrap()
        };
        for (remedy, helps, no_help) in [
            (Remedy::Batch, "--batch", "--images-limit"),
            (Remedy::ImagesLimit, "--images-limit", "--batch"),
            (Remedy::ImageSize, "--image-size", "--batch"),
        ] {
            let hint = hint(remedy);
            assert!(hint.contains(helps) && hint.contains("--device cpu") && !hint.contains(no_help), "{hint}");
        }
    }
}
