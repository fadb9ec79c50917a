//! Many devices at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use super::destination::Destination;
use super::error::FlashError;
use super::report::{Failure, HostReport, Outcome};
use crate::progress::Progress;

/// Devices that are worked on at the same time.
const AT_ONCE: usize = 16;

/// Does `work` for every device and reports in the order of the devices.
pub fn run(
    destinations: &[Destination],
    progress: &dyn Progress,
    work: impl Fn(&Destination, &dyn Progress, &mut Vec<String>) -> Result<Outcome, FlashError> + Sync,
) -> Vec<HostReport> {
    let one = |destination: &Destination| {
        let begun = Instant::now();
        let mut warnings = Vec::new();
        let host = destination.to_string();
        // One device may draw; several would draw over each other.
        let lines = Lines { host: &host, inner: progress, stage: Mutex::default() };
        let progress: &dyn Progress = if destinations.len() == 1 { progress } else { &lines };
        let outcome =
            work(destination, progress, &mut warnings).unwrap_or_else(|error| Outcome::Failed(Failure::of(&error)));
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        HostReport { host, outcome, warnings, milliseconds }
    };
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::with_capacity(destinations.len()));
    thread::scope(|scope| {
        for _ in 0..destinations.len().min(AT_ONCE) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    let Some(destination) = destinations.get(index) else { break };
                    let report = one(destination);
                    reports.lock().unwrap_or_else(PoisonError::into_inner).push((index, report));
                }
            });
        }
    });
    let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.sort_by_key(|(index, _)| *index);
    reports.into_iter().map(|(_, report)| report).collect()
}

/// A line for the beginning and the end of each stage of one device.
struct Lines<'a> {
    host: &'a str,
    inner: &'a dyn Progress,
    stage: Mutex<String>,
}

impl Progress for Lines<'_> {
    fn begin(&self, stage: &str, total: u64, unit: &'static str) {
        stage.clone_into(&mut self.stage.lock().unwrap_or_else(PoisonError::into_inner));
        self.inner.note(&format!("{}: {stage}: {total} {unit}", self.host));
    }

    fn done(&self, _count: u64) {}

    fn end(&self, summary: &str) {
        let stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.note(&format!("{}: {stage}: {summary}", self.host));
    }

    fn note(&self, text: &str) {
        self.inner.note(&format!("{}: {text}", self.host));
    }
}
