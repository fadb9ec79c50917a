//! The loop over images: workers in parallel, sums in the order of the images.
//!
//! Images are summed in groups of a fixed size and groups are added in order, so that the result
//! does not depend on how many workers there are or which one is faster.

use std::collections::BTreeMap;
use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headroom_device::lock::{lock, wait_for};

use super::sums::Sums;
use super::{FisherForm, Importance, ImportanceError, Views};
use crate::executor::{CandleVit, ExecutorError};

/// Images whose gradients are summed before they meet those of other workers.
const GROUP: usize = 4;
/// Groups that may be finished before their turn, per worker: bounds the memory.
const AHEAD: usize = 4;

/// How [`estimate`] runs.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    pub form: FisherForm,
    /// Images worked on at the same time. A GPU is best served by one.
    pub workers: NonZeroUsize,
    /// Set it, from anywhere, to stop after the images that are being worked on.
    pub interrupt: &'a AtomicBool,
}

/// The importance of the structures of a model on `images`, with the model on one device or the same on several, which
/// take groups of images by turns.
///
/// `progress` is called with the number of images done, from any worker, not necessarily in order.
/// An image in work holds its activations: about `(5 + hidden / width) * depth` times its tokens.
///
/// # Errors
/// If there is no image, an image's views are unusable, the producer or the model fails, a
/// gradient is not finite, or `options.interrupt` is set.
pub fn estimate<E: Into<Box<dyn Error + Send + Sync>>>(
    models: &[CandleVit],
    images: impl Iterator<Item = Result<Views, E>> + Send,
    options: Options,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Importance, ImportanceError> {
    let no_device = || ImportanceError::Executor { image: 0, source: ExecutorError::NoDevice };
    let first = models.first().ok_or_else(no_device)?;
    let work = Work {
        models,
        in_use: models.iter().map(|_| Mutex::new(())).collect(),
        options,
        progress,
        source: Mutex::new(images.enumerate()),
        done: AtomicUsize::new(0),
        merged: Mutex::new(Merged {
            next: 0,
            early: BTreeMap::new(),
            sums: Sums::new(options.form, first.depth()),
            failure: None,
        }),
        turn: Condvar::new(),
    };
    std::thread::scope(|scope| {
        let work = &work;
        for _ in 1..options.workers.get() {
            scope.spawn(move || work.run());
        }
        work.run();
    });
    let merged = work.merged.into_inner().unwrap_or_else(PoisonError::into_inner);
    match merged.failure {
        Some(error) => Err(error),
        None if options.interrupt.load(Ordering::Relaxed) => {
            Err(ImportanceError::Interrupted { images: merged.sums.images() })
        }
        None if merged.sums.images() == 0 => Err(ImportanceError::NoImages),
        None => {
            let image = merged.sums.images() - 1;
            merged.sums.importance(first).map_err(|source| ImportanceError::Executor { image, source: source.into() })
        }
    }
}

/// What the workers share.
struct Work<'a, I> {
    models: &'a [CandleVit],
    /// Of each model whether a worker has it: a GPU has room for the gradients of one at a time.
    in_use: Vec<Mutex<()>>,
    options: Options<'a>,
    progress: &'a (dyn Fn(usize) + Sync),
    source: Mutex<std::iter::Enumerate<I>>,
    done: AtomicUsize,
    merged: Mutex<Merged>,
    turn: Condvar,
}

/// The groups summed so far, in order.
struct Merged {
    next: usize,
    /// Groups that were finished before their turn.
    early: BTreeMap<usize, Sums>,
    sums: Sums,
    failure: Option<ImportanceError>,
}

impl<E: Into<Box<dyn Error + Send + Sync>>, I: Iterator<Item = Result<Views, E>>> Work<'_, I> {
    /// Takes groups of images until there are no more.
    fn run(&self) {
        loop {
            if self.options.interrupt.load(Ordering::Relaxed) || self.lock_merged().failure.is_some() {
                return;
            }
            match self.group() {
                Ok(Some((group, sums))) => self.merge(group, sums),
                Ok(None) => return,
                Err(error) => {
                    self.lock_merged().failure.get_or_insert(error);
                    self.turn.notify_all();
                    return;
                }
            }
        }
    }

    /// Sums the next group; its index is that of its first image over [`GROUP`].
    fn group(&self) -> Result<Option<(usize, Sums)>, ImportanceError> {
        let images: Vec<_> = {
            let mut source = lock(&self.source);
            source.by_ref().take(GROUP).collect()
        };
        let Some(&(first, _)) = images.first() else { return Ok(None) };
        // By the number of the group and not by who takes it, so that no result depends on which device is faster.
        let device = first / GROUP % self.models.len();
        let model = &self.models[device];
        let _mine = (!model.device().is_cpu()).then(|| lock(&self.in_use[device]));
        let mut sums = Sums::new(self.options.form, model.depth());
        for (image, views) in images {
            if self.options.interrupt.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let views = views.map_err(|source| ImportanceError::Source { image, source: source.into() })?;
            check(model, image, &views)?;
            let finite = sums.add(model, &views).map_err(|source| ImportanceError::Executor { image, source })?;
            if !finite {
                return Err(ImportanceError::NotFinite { image });
            }
            (self.progress)(self.done.fetch_add(1, Ordering::Relaxed) + 1);
        }
        let settled = sums.settle().map_err(|source| ImportanceError::Executor { image: first, source })?;
        if !settled {
            return Err(ImportanceError::NotFinite { image: first });
        }
        Ok(Some((first / GROUP, sums)))
    }

    /// Adds a group once all earlier ones are added; waits where too many are early.
    fn merge(&self, group: usize, sums: Sums) {
        let mut merged = self.lock_merged();
        merged.early.insert(group, sums);
        loop {
            let next = merged.next;
            let Some(sums) = merged.early.remove(&next) else { break };
            merged.sums.merge(sums);
            merged.next += 1;
            self.turn.notify_all();
        }
        let stopped = |merged: &Merged| merged.failure.is_some() || self.options.interrupt.load(Ordering::Relaxed);
        let limit = AHEAD * self.options.workers.get();
        while merged.early.len() >= limit && !stopped(&merged) {
            // An interrupted worker leaves its group unfinished without notice, hence the timeout.
            merged = wait_for(&self.turn, merged, Duration::from_millis(100));
        }
    }

    fn lock_merged(&self) -> MutexGuard<'_, Merged> {
        lock(&self.merged)
    }
}

/// Refuses views that are no whole images of the model, or nothing to compare.
fn check(model: &CandleVit, image: usize, views: &Views) -> Result<(), ImportanceError> {
    let Views { pixels, views, global } = views;
    if *global == 0 || *views < 2 || global > views {
        return Err(ImportanceError::Views { image, views: *views, global: *global });
    }
    let [channels, height, width] = model.image_shape();
    let expected = views * channels * height * width;
    if pixels.len() != expected {
        return Err(ImportanceError::Pixels { image, views: *views, expected, found: pixels.len() });
    }
    Ok(())
}
