//! Installing a release on one device, step by step.

use std::sync::atomic::{AtomicBool, Ordering};

use super::check::{self, Wish};
use super::device::{Device, Health, Lock};
use super::error::FlashError;
use super::release::Release;
use super::report::Outcome;
use crate::progress::Progress;

/// What all devices of a run share.
pub struct Job<'a> {
    pub wish: Wish<'a>,
    /// The root of the system's own files, empty but in tests.
    pub system: &'a str,
    pub health: Health,
    /// Releases to keep.
    pub keep: u32,
    /// Who takes the lock.
    pub owner: &'a str,
    pub interrupt: &'a AtomicBool,
}

impl Job<'_> {
    /// Installs a release and makes it active; with `dry_run` only tells what
    /// would be done. Adds what is odd to `warnings`.
    ///
    /// # Errors
    /// If the release is not active in the end, or nobody can tell.
    pub fn install(
        &self,
        device: &Device<'_>,
        release: &Release,
        dry_run: bool,
        progress: &dyn Progress,
        warnings: &mut Vec<String>,
    ) -> Result<Outcome, FlashError> {
        let facts = device.probe(self.system, &self.health.unit, &release.requirements.libraries)?;
        warnings.extend(check::device(&facts, Some(release), &self.wish)?);
        let status = device.status(&self.health.unit)?;
        let missing = device.missing(release)?;
        let missing_bytes = missing.iter().map(|missing| missing.object.size - missing.offset).sum();
        check::room(&facts, missing_bytes)?;
        let (hash, before) = (release.hash.clone(), status.active.clone());
        if dry_run {
            return Ok(Outcome::Planned { release: hash, before, missing_bytes, missing_files: missing.len() });
        }
        let is_active = status.active.as_ref() == Some(&hash) && !status.unproven && status.unit == "active";
        if is_active && missing.is_empty() {
            return Ok(Outcome::Unchanged { release: hash });
        }

        let lock = device.lock(self.owner)?;
        device.prepare(&lock)?;
        // What is missing may have changed before the lock was ours.
        let mut sent_bytes = self.send_missing(device, &lock, release, progress)?;
        match device.assemble(&lock, release) {
            // Rotten objects are removed and sent once more.
            Err(FlashError::Corrupt { .. }) => {
                sent_bytes += self.send_missing(device, &lock, release, progress)?;
                device.assemble(&lock, release)?;
            }
            result => result?,
        }
        self.check_interrupt()?;
        self.activate(device, &lock, &hash, progress)?;
        Ok(Outcome::Activated { release: hash, before, sent_bytes })
    }

    /// Makes the release before the active one active.
    ///
    /// # Errors
    /// If there is none, or it is not active in the end.
    pub fn roll_back(&self, device: &Device<'_>, progress: &dyn Progress) -> Result<Outcome, FlashError> {
        let lock = device.lock(self.owner)?;
        let status = device.status(&self.health.unit)?;
        let back = status.way_back().ok_or(FlashError::NothingBefore)?.to_owned();
        device.prepare(&lock)?;
        self.activate(device, &lock, &back, progress)?;
        Ok(Outcome::Activated { release: back, before: status.active, sent_bytes: 0 })
    }

    fn send_missing(
        &self,
        device: &Device<'_>,
        lock: &Lock,
        release: &Release,
        progress: &dyn Progress,
    ) -> Result<u64, FlashError> {
        let missing = device.missing(release)?;
        let total = missing.iter().map(|missing| missing.object.size - missing.offset).sum();
        if total == 0 && missing.is_empty() {
            return Ok(0);
        }
        progress.begin("copying", total, "bytes");
        let mut before = 0;
        for missing in missing {
            self.check_interrupt()?;
            device.send(lock, missing, &|there| progress.done(before + there.saturating_sub(missing.offset)))?;
            before += missing.object.size - missing.offset;
        }
        self.check_interrupt()?;
        progress.end(&format!("{total} bytes"));
        Ok(total)
    }

    fn activate(
        &self,
        device: &Device<'_>,
        lock: &Lock,
        hash: &str,
        progress: &dyn Progress,
    ) -> Result<(), FlashError> {
        progress.begin("activating", 1, "release");
        device.activate(lock, hash, self.keep, &self.health)?;
        progress.end("healthy");
        Ok(())
    }

    fn check_interrupt(&self) -> Result<(), FlashError> {
        if self.interrupt.load(Ordering::SeqCst) { Err(FlashError::Interrupted) } else { Ok(()) }
    }
}
