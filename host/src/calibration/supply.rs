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
                return self
                    .workers
                    .swap_remove(turn)
                    .thread
                    .join()
                    .map_or_else(|panic| resume_unwind(panic), |()| None);
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    use headroom_device::model::description::{CropMode, Interpolation};
    use image::Rgb;

    use super::*;

    fn input() -> ImageInput {
        ImageInput {
            height: 8,
            width: 8,
            channels: 3,
            patch: 4,
            mean: [0.0; 3],
            std: [1.0; 3],
            interpolation: Interpolation::Bilinear,
            crop_fraction: 1.0,
            crop_mode: CropMode::Center,
        }
    }

    fn workers(count: usize) -> NonZeroUsize {
        NonZeroUsize::new(count).unwrap()
    }

    /// Twelve files, of which the fourth, sixth and last cannot be read.
    fn mixed_folder() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let path = |index: u8| home.path().join(format!("{index:02}.png"));
        for index in 0..12 {
            RgbImage::from_pixel(9, 9, Rgb([index * 20; 3])).save(path(index)).unwrap();
        }
        let whole = fs::read(path(3)).unwrap();
        fs::write(path(3), &whole[..whole.len() / 2]).unwrap();
        fs::write(path(5), "text").unwrap();
        fs::write(path(11), "").unwrap();
        home
    }

    fn source(path: &Path) -> Arc<ImageSource> {
        Arc::new(ImageSource::folder(path, None, 0, &mut |_| {}).unwrap())
    }

    #[test]
    fn images_come_in_order_and_the_unreadable_are_reported_once() {
        let home = mixed_folder();
        for count in [1, 2, 5, 40] {
            let mut events = Vec::new();
            let supply =
                Supply::evaluation(source(home.path()), &input(), workers(count), |event| events.push(event)).unwrap();
            let found: Vec<(usize, f32)> = supply.map(|(index, pixels)| (index, (pixels[0] * 255.0).round())).collect();
            let expected = [0, 1, 2, 4, 6, 7, 8, 9, 10].map(|index| (index, index as f32 * 20.0));
            assert_eq!(found, expected, "{count} workers");
            let reported: Vec<String> = events.iter().map(ToString::to_string).collect();
            assert_eq!(reported.len(), 3, "{reported:?}");
            for (text, name) in reported.iter().zip(["03.png", "05.png", "11.png"]) {
                assert!(text.starts_with("skipped `") && text.contains(name), "{text}");
            }
        }
    }

    #[test]
    fn views_do_not_depend_on_the_number_of_workers() {
        let source = Arc::new(ImageSource::procedural(workers(7), 3, &input()).unwrap());
        let views = |count| -> Vec<(usize, Views)> {
            let multi_crop = MultiCrop::default();
            Supply::views(Arc::clone(&source), &input(), multi_crop, 4, workers(count), |_| {}).unwrap().collect()
        };
        let one = views(1);
        assert_eq!(one.len(), 7);
        assert_eq!(one, views(3));
    }

    #[test]
    fn dropping_the_supply_stops_the_workers() {
        let source = Arc::new(ImageSource::procedural(workers(1_000_000), 3, &input()).unwrap());
        let mut supply = Supply::evaluation(Arc::clone(&source), &input(), workers(2), |_| {}).unwrap();
        assert_eq!(supply.next().map(|(index, _)| index), Some(0));
        drop(supply);
        // Each worker held the source while it ran.
        assert_eq!(Arc::strong_count(&source), 1);
    }

    #[test]
    fn workers_do_not_run_far_ahead() {
        let source = Arc::new(ImageSource::procedural(workers(1000), 3, &input()).unwrap());
        let (prepared, counted) = std::sync::mpsc::channel();
        let mut supply = Supply::start(
            source,
            workers(2),
            |_| {},
            || {
                let prepared = prepared.clone();
                move |index, _: &RgbImage| {
                    // The receiver lives to the end of the test.
                    let _ = prepared.send(index);
                    Ok(index)
                }
            },
        )
        .unwrap();
        assert_eq!(supply.next(), Some((0, 0)));
        std::thread::sleep(std::time::Duration::from_millis(200));
        // Taken, waiting in the channels, and in the hands of the workers.
        let most = 1 + 2 * (AHEAD + 1);
        let found = counted.try_iter().count();
        assert!((1..=most).contains(&found), "{found} images were prepared");
    }

    #[test]
    #[should_panic(expected = "out of luck")]
    fn a_panic_of_a_worker_reaches_the_consumer() {
        let source = Arc::new(ImageSource::procedural(workers(4), 3, &input()).unwrap());
        let supply = Supply::start(
            source,
            workers(2),
            |_| {},
            || |index, _: &RgbImage| if index == 3 { panic!("out of luck") } else { Ok(index) },
        );
        assert_eq!(supply.unwrap().count(), 0, "the panic comes first");
    }

    #[test]
    fn real_photographs_are_all_readable() {
        let data = std::env::var("HEADROOM_DATA")
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data").into());
        let photos = Path::new(&data).join("photos");
        if !photos.is_dir() {
            // Straight to stderr: the test runner hides what print macros say.
            writeln!(std::io::stderr(), "SKIPPED: no photographs in `{}`", photos.display()).unwrap();
            return;
        }
        let source = Arc::new(ImageSource::folder(&photos, None, 0, &mut |_| {}).unwrap());
        let input = ImageInput { height: 32, width: 32, ..input() };
        let mut events = Vec::new();
        let count =
            Supply::evaluation(Arc::clone(&source), &input, workers(2), |event| events.push(event)).unwrap().count();
        assert!(events.is_empty(), "{events:?}");
        assert_eq!(count, source.count());
        assert!(count > 0);
    }
}
