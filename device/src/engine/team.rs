//! The threads of one workspace: they share each step of a forward pass and sleep between passes.
//!
//! A pass has a few dozen steps of well under a millisecond, so that waking threads for each would
//! cost more than it gains. A worker that has finished a step spins for [`SPIN`], in which the next
//! one usually comes, and only then goes to sleep; a team that has nothing to do uses no processor.
//! Handing a step over and waiting for its end are one atomic store and one counter, and allocate
//! nothing.

use std::cell::UnsafeCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::shared::Shared;

/// How long a worker looks for the next step before it sleeps: longer than the pauses inside a
/// pass, short beside a frame of a camera.
const SPIN: Duration = Duration::from_micros(100);

/// How long a thread waits for another of its team before it lets others have the processor: one
/// that is waited for may itself be waiting for it.
const PATIENCE: Duration = Duration::from_micros(20);

/// The calling thread and some workers.
pub(crate) struct Team {
    control: Arc<Control>,
    workers: Vec<JoinHandle<()>>,
}

/// One thread of a team during a step.
pub(crate) struct Member<'a> {
    control: Option<&'a Control>,
}

/// How often a waiting thread looks before it looks at the clock, which takes longer.
const LOOKS: usize = 32;

type Step<'a> = dyn Fn(usize) + Sync + 'a;

/// What caller and workers see of each other.
struct Control {
    /// Counts the steps; a new one is there when it has changed.
    steps: AtomicUsize,
    /// The step to work on. Written by the caller while no worker works, read by workers that saw
    /// `steps` change.
    step: UnsafeCell<Option<&'static Step<'static>>>,
    /// Workers that have not finished the step.
    working: AtomicUsize,
    /// Workers that sleep or are about to.
    asleep: AtomicUsize,
    /// Whether a thread panicked in the step.
    failed: AtomicBool,
    ending: AtomicBool,
}

// SAFETY: `step` alone is not `Sync` by itself. The caller writes it before it changes `steps`
// (release) and not again before `working` is zero (acquire); workers read it in between.
#[expect(unsafe_code, reason = "the step is handed over by the order of two atomics")]
unsafe impl Sync for Control {}
// SAFETY: a step is `Sync`, so a reference to it may be sent.
#[expect(unsafe_code, reason = "the step is handed over by the order of two atomics")]
unsafe impl Send for Control {}

impl Team {
    /// A team of `threads`, the caller counted: fewer where the system starts no more.
    pub(crate) fn new(threads: usize) -> Self {
        let control = Arc::new(Control {
            steps: AtomicUsize::new(0),
            step: UnsafeCell::new(None),
            working: AtomicUsize::new(0),
            asleep: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            ending: AtomicBool::new(false),
        });
        let start = |index: usize| {
            let control = Arc::clone(&control);
            let thread = std::thread::Builder::new().name(format!("headroom-{index}"));
            thread.spawn(move || control.work(index)).ok()
        };
        let workers = (1..threads).map_while(start).collect();
        Self { control, workers }
    }

    /// The threads, the caller counted.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `step` once on every thread, each with an own one of `locals`, and returns when all
    /// have ended.
    ///
    /// # Panics
    /// If `step` panics on any thread, or if there are fewer `locals` than threads.
    pub(crate) fn run<L: Send>(&mut self, locals: &mut [L], step: impl Fn(Member, &mut L) + Sync) {
        if self.workers.is_empty() {
            return step(Member { control: None }, &mut locals[0]);
        }
        assert!(locals.len() >= self.threads(), "a thread without room of its own");
        let control = &*self.control;
        let locals = Locals(Shared::new(locals));
        self.hand_over(&|index: usize| {
            // SAFETY: the index is this thread's alone.
            #[expect(unsafe_code, reason = "each thread takes its own")]
            let own = unsafe { locals.own(index) };
            step(Member { control: Some(control) }, own);
        });
    }

    fn hand_over(&self, step: &Step<'_>) {
        // SAFETY: no worker keeps the step beyond `finish`, which returns or unwinds only after all
        // have ended, and until then this function does not return.
        #[expect(unsafe_code, reason = "workers outlive the step, but never use it after its end")]
        let step = unsafe { std::mem::transmute::<&Step<'_>, &'static Step<'static>>(step) };
        let control = &*self.control;
        // SAFETY: no worker reads it: all have finished the last step, and there is no new one yet.
        #[expect(unsafe_code, reason = "the step is handed over by the order of two atomics")]
        unsafe {
            *control.step.get() = Some(step);
        }
        control.working.store(self.workers.len(), Ordering::Relaxed);
        control.steps.fetch_add(1, Ordering::SeqCst);
        self.wake();
        let own = catch_unwind(AssertUnwindSafe(|| step(0)));
        if own.is_err() {
            control.failed.store(true, Ordering::Relaxed);
        }
        wait_until(|| control.working.load(Ordering::Acquire) == 0);
        let failed = control.failed.swap(false, Ordering::Relaxed);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!failed, "a thread of the engine's team panicked");
    }

    /// Wakes the workers if one sleeps. One that is about to sees that `steps` has changed.
    fn wake(&self) {
        if self.control.asleep.load(Ordering::SeqCst) > 0 {
            self.workers.iter().for_each(|worker| worker.thread().unpark());
        }
    }
}

/// Room for each thread of a team.
struct Locals<'a, L>(Shared<'a, L>);

// SAFETY: each element is used by one thread only, as `own` demands.
#[expect(unsafe_code, reason = "each thread takes its own")]
unsafe impl<L: Send> Sync for Locals<'_, L> {}

impl<'a, L> Locals<'a, L> {
    /// # Safety
    /// No two threads give the same index.
    #[expect(unsafe_code, reason = "each thread takes its own")]
    unsafe fn own(&self, index: usize) -> &'a mut L {
        // SAFETY: as the caller promises.
        let part = unsafe { self.0.part(index..index + 1) };
        &mut part[0]
    }
}

impl Control {
    /// The life of a worker.
    fn work(&self, index: usize) {
        for next in 1.. {
            self.wait_for_step(next);
            if self.ending.load(Ordering::Relaxed) {
                return;
            }
            // SAFETY: `steps` has changed, so the step was written, and it is not written again
            // before this worker has counted itself out below.
            #[expect(unsafe_code, reason = "the step is handed over by the order of two atomics")]
            let step = unsafe { *self.step.get() };
            if catch_unwind(AssertUnwindSafe(|| step.map(|step| step(index)))).is_err() {
                self.failed.store(true, Ordering::Relaxed);
            }
            self.working.fetch_sub(1, Ordering::Release);
        }
    }

    fn wait_for_step(&self, next: usize) {
        let is_there = || self.steps.load(Ordering::SeqCst) == next;
        let start = Instant::now();
        while !is_there() {
            if spin_until(is_there, LOOKS) || start.elapsed() < SPIN {
                continue;
            }
            self.asleep.fetch_add(1, Ordering::SeqCst);
            while !is_there() {
                std::thread::park();
            }
            self.asleep.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Member<'_> {
    /// Waits for what another member does in the same step.
    ///
    /// # Panics
    /// If a member has panicked, which may be the one that was waited for.
    pub(crate) fn wait_until(&self, done: impl Fn() -> bool) {
        let failed = || self.control.is_some_and(|control| control.failed.load(Ordering::Relaxed));
        wait_until(|| done() || failed());
        assert!(done(), "another thread of the engine's team panicked");
    }
}

fn wait_until(done: impl Fn() -> bool) {
    let mut start = None;
    while !done() {
        if spin_until(&done, LOOKS) {
            return;
        }
        if start.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
            std::thread::yield_now();
        }
    }
}

/// Looks so many times in a short while; returns whether it is so.
fn spin_until(done: impl Fn() -> bool, looks: usize) -> bool {
    (0..looks).any(|_| {
        std::hint::spin_loop();
        done()
    })
}

impl Drop for Team {
    fn drop(&mut self) {
        self.control.ending.store(true, Ordering::Relaxed);
        self.control.steps.fetch_add(1, Ordering::SeqCst);
        self.wake();
        for worker in self.workers.drain(..) {
            // A worker catches what a step panics with.
            let _ = worker.join();
        }
    }
}

impl fmt::Debug for Team {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_struct("Team").field("threads", &self.threads()).finish()
    }
}

/// Pieces of a step that its threads take in turns.
pub(crate) struct Tasks {
    next: AtomicUsize,
    count: usize,
}

impl Tasks {
    pub(crate) fn new(count: usize) -> Self {
        Self { next: AtomicUsize::new(0), count }
    }

    /// The tasks that the calling thread is to do, each as soon as it asks: in rising order, and each task goes to one
    /// thread.
    pub(crate) fn claim(&self) -> impl Iterator<Item = usize> {
        std::iter::from_fn(|| {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            (task < self.count).then_some(task)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_done_once_on_any_number_of_threads() {
        for threads in 1..=5 {
            let mut team = Team::new(threads);
            let mut locals = vec![0_usize; threads];
            for tasks in [0, 1, 2, 7, 100] {
                let done: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                let queue = Tasks::new(tasks);
                team.run(&mut locals, |_, own| {
                    for task in queue.claim() {
                        done[task].fetch_add(1, Ordering::Relaxed);
                        *own += 1;
                    }
                });
                assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
            assert_eq!(locals.iter().sum::<usize>(), 110);
        }
    }

    #[test]
    fn threads_that_slept_wake_for_the_next_step() {
        let mut team = Team::new(3);
        let mut locals = [0; 3];
        for _ in 0..3 {
            team.run(&mut locals, |_, own| *own += 1);
            while team.control.asleep.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
        }
        assert_eq!(locals, [3; 3]);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_goes_on() {
        let mut team = Team::new(3);
        let mut locals = [0, 1, 2];
        for broken in 0..3 {
            let never = AtomicBool::new(false);
            let result = catch_unwind(AssertUnwindSafe(|| {
                team.run(&mut locals, |member, own| {
                    assert!(*own != broken, "on purpose");
                    // Whoever waits for the broken one must not wait forever.
                    member.wait_until(|| never.load(Ordering::Relaxed));
                });
            }));
            assert!(result.is_err());
        }
        team.run(&mut locals, |_, own| *own = 7);
        assert_eq!(locals, [7; 3]);
    }
}
