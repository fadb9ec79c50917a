//! The images of a job: some to calibrate on, others to measure fidelity on.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use headroom_device::model::description::ImageInput;

use super::job::is_set;
use super::{Options, PruneError};
use crate::calibration::{CalibrationError, CalibrationEvent, ImageSource, MultiCrop, Supply, default_workers};
use crate::importance::Views;
use crate::progress::Progress;

/// Images that fidelity is measured on at most.
const FIDELITY_IMAGES: usize = 256;

/// Images below which a mean cosine says little: as many are held out where
/// the source has four times as many to calibrate on.
const FEWEST_FIDELITY_IMAGES: usize = 64;

/// The images of a job, preprocessed.
pub struct JobImages {
    source: Arc<ImageSource>,
    input: ImageInput,
    seed: u64,
    name: String,
    calibration: Vec<f32>,
    /// `None` where all images were needed for calibration.
    held_out: Option<Vec<f32>>,
    pixels_per_image: usize,
    unreadable: usize,
}

impl JobImages {
    /// Opens `--images`, or the procedural generator, and preprocesses what
    /// search and ladder need. Fidelity is measured on other images than those
    /// of the calibration wherever there are enough ([`held_out`]).
    ///
    /// # Errors
    /// If no image is readable, or `interrupt` is set.
    pub fn prepare(
        options: &Options,
        input: &ImageInput,
        progress: &dyn Progress,
        interrupt: &AtomicBool,
    ) -> Result<Self, PruneError> {
        let limit = options.images_limit as usize;
        let wanted = NonZeroUsize::new(limit + limit.min(FIDELITY_IMAGES)).unwrap_or(NonZeroUsize::MIN);
        let mut unreadable = 0;
        let mut tell = |event: CalibrationEvent| {
            let CalibrationEvent::Skipped { path, reason } = event;
            unreadable += 1;
            progress.note(&format!("skipped {}: {reason}", path.display()));
        };
        let (name, all) = match &options.images {
            Some(path) => {
                (path.display().to_string(), ImageSource::folder(path, Some(wanted), options.seed, &mut tell)?)
            }
            None => ("procedural".to_owned(), ImageSource::procedural(wanted, options.seed, input)?),
        };
        let calibration = all.count() - held_out(all.count(), limit);
        let (source, others) = all.split(calibration);
        let source = Arc::new(source);
        let begun = others.as_ref().map_or(0, ImageSource::count) + source.count();
        progress.begin("images", begun as u64, "images");
        let calibration = evaluation(&source, input, &mut tell, |done| progress.done(done), interrupt)?;
        let first = source.count() as u64;
        let held_out = others
            .map(|others| {
                evaluation(&Arc::new(others), input, &mut tell, |done| progress.done(first + done), interrupt)
            })
            .transpose()?
            .filter(|pixels| !pixels.is_empty());
        let pixels_per_image = input.channels * input.height * input.width;
        let counts = (calibration.len() / pixels_per_image, held_out.as_ref().map(|p| p.len() / pixels_per_image));
        progress.end(&match counts {
            (calibration, Some(others)) => {
                format!("{calibration} to calibrate on, {others} others to measure fidelity")
            }
            (calibration, None) => format!("{calibration}, also used to measure fidelity"),
        });
        Ok(Self {
            source,
            input: input.clone(),
            seed: options.seed,
            name,
            calibration,
            held_out,
            pixels_per_image,
            unreadable,
        })
    }

    /// The folder, or `procedural`.
    pub fn source(&self) -> &str {
        &self.name
    }

    /// The preprocessed calibration images.
    pub fn calibration(&self) -> &[f32] {
        &self.calibration
    }

    /// How many they are.
    pub fn calibration_count(&self) -> usize {
        self.calibration.len() / self.pixels_per_image
    }

    /// The preprocessed images that fidelity is measured on.
    pub fn fidelity(&self) -> &[f32] {
        self.held_out.as_deref().unwrap_or(&self.calibration)
    }

    /// How many they are.
    pub fn fidelity_count(&self) -> usize {
        self.fidelity().len() / self.pixels_per_image
    }

    /// Whether fidelity is measured on other images than the calibration's.
    pub fn held_out(&self) -> bool {
        self.held_out.is_some()
    }

    /// Files that could not be read.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Values of one preprocessed image.
    pub fn pixels_per_image(&self) -> usize {
        self.pixels_per_image
    }

    /// Random crops of one calibration image.
    pub fn views_per_image(&self) -> usize {
        MultiCrop::default().views()
    }

    /// The views of every calibration image, in order, made ahead by other threads.
    ///
    /// # Errors
    /// If the threads cannot be started.
    pub fn views(&self) -> Result<impl Iterator<Item = Views> + Send, CalibrationError> {
        let supply = Supply::views(
            Arc::clone(&self.source),
            &self.input,
            MultiCrop::default(),
            self.seed,
            default_workers(),
            // Told already, when the images were preprocessed.
            |_| (),
        )?;
        Ok(supply.map(|(_, views)| views))
    }
}

/// How many of `count` images are held out for fidelity: what is left beyond
/// `limit`, but not fewer than 64 of a source that can spare them, and none of
/// a small one.
fn held_out(count: usize, limit: usize) -> usize {
    let left = count.saturating_sub(limit);
    if left >= FEWEST_FIDELITY_IMAGES || left >= limit {
        left
    } else if count >= 5 * FEWEST_FIDELITY_IMAGES {
        FEWEST_FIDELITY_IMAGES
    } else {
        0
    }
}

fn evaluation(
    source: &Arc<ImageSource>,
    input: &ImageInput,
    tell: impl FnMut(CalibrationEvent) + Send,
    done: impl Fn(u64),
    interrupt: &AtomicBool,
) -> Result<Vec<f32>, PruneError> {
    let supply = Supply::evaluation(Arc::clone(source), input, default_workers(), tell)?;
    let mut pixels = Vec::with_capacity(source.count() * input.channels * input.height * input.width);
    for (index, image) in supply {
        pixels.extend_from_slice(&image);
        done(index as u64 + 1);
        if is_set(interrupt) {
            return Err(PruneError::Interrupted);
        }
    }
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use super::held_out;

    #[test]
    fn fidelity_gets_other_images_where_there_are_enough() {
        assert_eq!(held_out(256, 128), 128);
        assert_eq!(held_out(768, 512), 256);
        assert_eq!(held_out(520, 512), 64);
        assert_eq!(held_out(100, 512), 0);
        assert_eq!(held_out(12, 6), 6);
    }
}
