//! A folder of calibration images.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};

use headroom_device::images::{decode_file, find_images};
use rand::RngExt;

use super::random::{Purpose, stream};
use super::source::Loaded;
use super::{CalibrationError, CalibrationEvent};

/// Images chosen from a folder.
///
/// The files, sorted by path, are cut into as many runs of nearly equal length
/// as images are wanted, so that every part of the folder (often a class) has
/// its share. From each run one file is drawn; where it cannot be read, the
/// next of the run takes its place, and after the last the first.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    files: Vec<PathBuf>,
    runs: Vec<Run>,
}

#[derive(Clone, Debug)]
struct Run {
    files: Range<usize>,
    drawn: usize,
}

impl ImageFolder {
    /// Opens the images at `path` (a folder, searched recursively, or one
    /// file) and chooses at most `limit` of them by `seed`.
    ///
    /// # Errors
    /// If the path cannot be opened, holds no images, or none can be read.
    pub fn open(
        path: &Path,
        limit: Option<NonZeroUsize>,
        seed: u64,
        events: &mut dyn FnMut(CalibrationEvent),
    ) -> Result<Self, CalibrationError> {
        let found = find_images(path)?;
        for entry in found.unreadable {
            events(CalibrationEvent::Skipped { path: entry.path, reason: entry.source.to_string() });
        }
        if found.files.is_empty() {
            return Err(CalibrationError::NoImages { path: path.to_owned() });
        }
        let count = limit.map_or(found.files.len(), |limit| limit.get().min(found.files.len()));
        let folder = Self { runs: choose(found.files.len(), count, seed), files: found.files };
        folder.check_any_readable(path)?;
        Ok(folder)
    }

    /// Divides the chosen images into `count` and the others, so that every
    /// part of the folder keeps its share of both.
    #[must_use]
    pub fn split(self, count: usize) -> (Self, Self) {
        let all = self.runs.len();
        let first_has = |index: usize| (index + 1) * count / all > index * count / all;
        let (mut first, mut others) = (Vec::new(), Vec::new());
        for (index, run) in self.runs.into_iter().enumerate() {
            if first_has(index) { first.push(run) } else { others.push(run) }
        }
        (Self { files: self.files.clone(), runs: first }, Self { files: self.files, runs: others })
    }

    /// The number of chosen images, unreadable ones included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.runs.len()
    }

    /// Loads chosen image `index`, which is below [`ImageFolder::count`].
    #[must_use]
    pub fn load(&self, index: usize) -> Loaded {
        let Run { files, drawn } = self.runs[index].clone();
        let mut skipped = Vec::new();
        for file in (drawn..files.end).chain(files.start..drawn) {
            match decode_file(&self.files[file]) {
                Ok(image) => return Loaded { image: Some(image), skipped },
                Err(error) => skipped.push(error),
            }
        }
        Loaded { image: None, skipped }
    }

    fn check_any_readable(&self, path: &Path) -> Result<(), CalibrationError> {
        let mut first = None;
        for index in 0..self.count() {
            let loaded = self.load(index);
            if loaded.image.is_some() {
                return Ok(());
            }
            first = first.or(loaded.skipped.into_iter().next());
        }
        match first {
            Some(first) => {
                Err(CalibrationError::NoneReadable { path: path.to_owned(), files: self.files.len(), first })
            }
            None => Err(CalibrationError::NoImages { path: path.to_owned() }),
        }
    }
}

fn choose(files: usize, count: usize, seed: u64) -> Vec<Run> {
    // Wide products: the limit and the folder may both be large.
    let boundary = |index: usize| (index as u128 * files as u128 / count as u128) as usize;
    (0..count)
        .map(|index| {
            let files = boundary(index)..boundary(index + 1);
            let drawn =
                stream(seed, Purpose::Selection, index as u64).random_range(files.start as u64..files.end as u64);
            Run { files, drawn: drawn as usize }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use headroom_device::images::RgbImage;
    use image::Rgb;
    use proptest::prelude::*;

    use super::*;

    fn shade(folder: &Path, name: &str, grey: u8) {
        RgbImage::from_pixel(6, 4, Rgb([grey; 3])).save(folder.join(name)).unwrap();
    }

    fn greys(folder: &ImageFolder) -> Vec<Option<u8>> {
        (0..folder.count()).map(|index| folder.load(index).image.map(|image| image.get_pixel(0, 0)[0])).collect()
    }

    fn open(path: &Path, limit: usize, seed: u64) -> Result<ImageFolder, CalibrationError> {
        ImageFolder::open(path, NonZeroUsize::new(limit), seed, &mut |_| {})
    }

    #[test]
    fn without_a_limit_all_images_come_in_path_order() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("a")).unwrap();
        shade(home.path(), "b.png", 2);
        shade(home.path(), "a/z.png", 1);
        shade(home.path(), "c.webp", 3);
        assert_eq!(greys(&open(home.path(), 0, 5).unwrap()), [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn a_limit_draws_from_every_part_and_depends_on_the_seed_only() {
        let home = tempfile::tempdir().unwrap();
        for index in 0..40 {
            shade(home.path(), &format!("{index:02}.png"), index);
        }
        let drawn = |seed| greys(&open(home.path(), 8, seed).unwrap());
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        for (run, grey) in drawn(1).into_iter().enumerate() {
            assert_eq!(usize::from(grey.unwrap()) / 5, run);
        }
    }

    #[test]
    fn a_division_leaves_nothing_out_and_takes_from_every_part() {
        let home = tempfile::tempdir().unwrap();
        for index in 0..30 {
            shade(home.path(), &format!("{index:02}.png"), index);
        }
        let (first, others) = open(home.path(), 0, 1).unwrap().split(20);
        assert_eq!((first.count(), others.count()), (20, 10));
        let mut all = [greys(&first), greys(&others)].concat();
        all.sort();
        assert_eq!(all, (0..30).map(Some).collect::<Vec<_>>());
        for (part, grey) in greys(&others).into_iter().enumerate() {
            assert_eq!(usize::from(grey.unwrap()) / 3, part);
        }
    }

    #[test]
    fn an_unreadable_image_is_replaced_by_another_of_its_run() {
        let home = tempfile::tempdir().unwrap();
        for index in 0..4 {
            fs::write(home.path().join(format!("{index}.png")), "no image").unwrap();
        }
        shade(home.path(), "2.png", 9);
        for seed in 0..8 {
            let folder = open(home.path(), 1, seed).unwrap();
            let loaded = folder.load(0);
            assert_eq!(loaded.image.unwrap().get_pixel(0, 0)[0], 9);
            assert!(loaded.skipped.len() < 4);
        }
    }

    #[test]
    fn folders_without_a_readable_image_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let message = open(home.path(), 3, 0).unwrap_err().to_string();
        assert_eq!(message, format!("there are no JPEG, PNG or WebP images in `{}`", home.path().display()));

        for name in ["empty.jpg", "more.png"] {
            fs::write(home.path().join(name), "").unwrap();
        }
        let message = open(home.path(), 0, 0).unwrap_err().to_string();
        let expected = format!("none of the 2 images in `{}` can be read; the first: ", home.path().display());
        assert!(message.starts_with(&expected) && message.ends_with("the file is empty"), "{message}");

        assert!(matches!(open(&home.path().join("none"), 0, 0), Err(CalibrationError::Find(_))));
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_looked_into_is_an_event() {
        let home = tempfile::tempdir().unwrap();
        shade(home.path(), "a.png", 1);
        std::os::unix::fs::symlink(home.path().join("gone"), home.path().join("link.png")).unwrap();
        let mut events = Vec::new();
        ImageFolder::open(home.path(), None, 0, &mut |event| events.push(event.to_string())).unwrap();
        assert_eq!(events.len(), 1);
        assert!(events[0].contains("link.png"), "{events:?}");
    }

    proptest! {
        #[test]
        fn runs_part_the_files(files in 1..500usize, share in 0.0..1.0f64, seed in any::<u64>()) {
            let count = 1 + ((files - 1) as f64 * share) as usize;
            let runs = choose(files, count, seed);
            prop_assert_eq!(runs.len(), count);
            let mut next = 0;
            for run in runs {
                prop_assert_eq!(run.files.start, next);
                prop_assert!(run.files.contains(&run.drawn));
                next = run.files.end;
            }
            prop_assert_eq!(next, files);
        }
    }
}
