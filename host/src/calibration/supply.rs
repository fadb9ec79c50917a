//! Images prepared ahead of the consumer, in order.
//!
//! Worker `w` of `n` prepares images w, w + n, w + 2n, ... and hands them over
//! through a channel of its own that holds a few; the consumer takes from the
//! channels in turn. So the order is that of the images, memory is bounded, and
//! a worker that is ahead waits. Dropping the supply stops the workers after the
//! image at hand.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle, available_parallelism};

use headroom_device::images::{ImageError, Preprocessor, RgbImage};
use headroom_device::model::description::ImageInput;

use super::{CalibrationError, CalibrationEvent, ImageSource, MultiCrop, ViewMaker};
use crate::importance::Views;

/// Prepared images that a worker holds ready.
const AHEAD: usize = 2;

/// Workers beyond this many do not pay: the consumer is slower.
const MAX_DEFAULT_WORKERS: usize = 8;

/// As many workers as processors, at most eight.
#[must_use]
pub fn default_workers() -> NonZeroUsize {
    let most = const { NonZeroUsize::new(MAX_DEFAULT_WORKERS).unwrap() };
    available_parallelism().unwrap_or(NonZeroUsize::MIN).min(most)
}

/// An iterator over prepared images and their numbers, rising. Numbers are
/// missing where an image cannot be read.
pub struct Supply<'a, T> {
    workers: Vec<Worker<T>>,
    next: usize,
    count: usize,
    events: Box<dyn FnMut(CalibrationEvent) + Send + 'a>,
    reported: HashSet<PathBuf>,
}

struct Worker<T> {
    prepared: Receiver<Prepared<T>>,
    thread: JoinHandle<()>,
}

struct Prepared<T> {
    data: Result<Option<T>, CalibrationError>,
    skipped: Vec<ImageError>,
}

impl<'a> Supply<'a, Vec<f32>> {
    /// Every image in the model's evaluation preprocessing, `[3, height, width]`.
    ///
    /// # Errors
    /// If the image input is unusable or a thread cannot be started.
    pub fn evaluation(
        source: Arc<ImageSource>,
        input: &ImageInput,
        workers: NonZeroUsize,
        events: impl FnMut(CalibrationEvent) + Send + 'a,
    ) -> Result<Self, CalibrationError> {
        let preprocessor = Preprocessor::new(input)?;
        Self::start(source, workers, events, || {
            let mut preprocessor = preprocessor.clone();
            move |_, image| Ok(preprocessor.evaluation(image)?)
        })
    }
}

impl<'a> Supply<'a, Views> {
    /// The views of every image, drawn by `seed`.
    ///
    /// # Errors
    /// If the settings or the image input are unusable or a thread cannot be started.
    pub fn views(
        source: Arc<ImageSource>,
        input: &ImageInput,
        multi_crop: MultiCrop,
        seed: u64,
        workers: NonZeroUsize,
        events: impl FnMut(CalibrationEvent) + Send + 'a,
    ) -> Result<Self, CalibrationError> {
        let maker = ViewMaker::new(input, multi_crop, seed)?;
        Self::start(source, workers, events, || {
            let mut maker = maker.clone();
            move |index, image| maker.views(index as u64, image)
        })
    }
}

impl<'a, T: Send + 'static> Supply<'a, T> {
    fn start<P>(
        source: Arc<ImageSource>,
        workers: NonZeroUsize,
        events: impl FnMut(CalibrationEvent) + Send + 'a,
        prepare: impl Fn() -> P,
    ) -> Result<Self, CalibrationError>
    where
        P: FnMut(usize, &RgbImage) -> Result<T, CalibrationError> + Send + 'static,
    {
        let count = source.count();
        let stride = workers.get().min(count.max(1));
        let workers = (0..stride)
            .map(|first| {
                let (sender, prepared) = sync_channel(AHEAD);
                let (source, prepare) = (Arc::clone(&source), prepare());
                let thread = Builder::new()
                    .name(format!("images-{first}"))
                    .spawn(move || work(&source, (first..count).step_by(stride), prepare, &sender))
                    .map_err(CalibrationError::Thread)?;
                Ok(Worker { prepared, thread })
            })
            .collect::<Result<Vec<_>, CalibrationError>>()?;
        Ok(Self { workers, next: 0, count, events: Box::new(events), reported: HashSet::new() })
    }
}

fn work<T>(
    source: &ImageSource,
    indices: impl Iterator<Item = usize>,
    mut prepare: impl FnMut(usize, &RgbImage) -> Result<T, CalibrationError>,
    sender: &SyncSender<Prepared<T>>,
) {
    for index in indices {
        let loaded = source.load(index);
        let data = loaded.image.map(|image| prepare(index, &image)).transpose();
        if sender.send(Prepared { data, skipped: loaded.skipped }).is_err() {
            return; // The supply was dropped.
        }
    }
}

impl<T> Supply<'_, T> {
    /// How many images there are at most.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    fn report(&mut self, path: PathBuf, reason: String) {
        if self.reported.insert(path.clone()) {
            (self.events)(CalibrationEvent::Skipped { path, reason });
        }
    }
}

impl<T> Iterator for Supply<'_, T> {
    type Item = (usize, T);

    fn next(&mut self) -> Option<(usize, T)> {
        while self.next < self.count {
            let index = self.next;
            let turn = index % self.workers.len();
            let Ok(Prepared { data, skipped }) = self.workers[turn].prepared.recv() else {
                // A worker ends early only by a panic, which goes on here.
                self.next = self.count;
                return self.workers.swap_remove(turn).thread.join().map_or_else(|panic| resume_unwind(panic), |()| None);
            };
            self.next += 1;
            for ImageError { path, cause } in skipped {
                self.report(path, cause.to_string());
            }
            match data {
                Ok(Some(data)) => return Some((index, data)),
                Ok(None) => {}
                Err(error) => self.report(PathBuf::from(format!("image {index}")), error.to_string()),
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.count - self.next))
    }
}

impl<T> Drop for Supply<'_, T> {
    fn drop(&mut self) {
        for Worker { prepared, thread } in self.workers.drain(..) {
            drop(prepared);
            // A panic was for the consumer, which no longer wants to know.
            let _ = thread.join();
        }
    }
}
