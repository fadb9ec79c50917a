//! Writing through a probe: erase, program, read back and compare, restart.

use probe_rs::flashing::{DownloadOptions, FlashError, FlashProgress, ProgressEvent, ProgressOperation};
use probe_rs::probe::Probe;
use probe_rs::{Permissions, Session, Target};

use super::error::ProbeError;
use super::plan::{Content, Part, PlannedWrite, Sector};
use crate::progress::Progress;

/// Attaches to the chip.
///
/// # Errors
/// If the chip does not answer.
pub fn attach(probe: Probe, name: &str, target: &Target, under_reset: bool) -> Result<Session, ProbeError> {
    let attached = if under_reset {
        probe.attach_under_reset(target.clone(), Permissions::new())
    } else {
        probe.attach(target.clone(), Permissions::new())
    };
    attached.map_err(|source| ProbeError::Attach {
        chip: target.name.clone(),
        probe: name.to_owned(),
        source: source.into(),
    })
}

/// Erases the sectors of a part, programs it, reads it back and compares.
///
/// # Errors
/// If any of that fails.
pub fn write(
    session: &mut Session,
    part: &Part,
    planned: &[PlannedWrite],
    progress: &dyn Progress,
) -> Result<(), ProbeError> {
    let content = part.content;
    let failed = |source: FlashError| match source {
        FlashError::Verify => ProbeError::Verify { content },
        source => ProbeError::Write { content, source: source.into() },
    };
    let mut loader = session.target().flash_loader();
    for piece in &part.pieces {
        loader.add_data(piece.address, &piece.data).map_err(failed)?;
    }
    let mut stages = Stages { content, progress, totals: [0; 4], done: 0, erased: Vec::new() };
    let mut options = DownloadOptions::new();
    options.verify = true;
    options.progress = FlashProgress::new(|event| stages.follow(event));
    loader.commit(session, options).map_err(failed)?;
    let planned: Vec<Sector> = planned.iter().flat_map(|write| write.sectors.iter().copied()).collect();
    stages.erased.sort();
    if stages.erased != planned {
        return Err(ProbeError::OtherSectors { content, planned: planned.len(), erased: stages.erased.len() });
    }
    Ok(())
}

/// Lets the chip start with what was written.
///
/// # Errors
/// If it cannot be reset.
pub fn restart(session: &mut Session) -> Result<(), ProbeError> {
    let reset = session.core(0).and_then(|mut core| core.reset());
    reset.map_err(|source| ProbeError::Reset { source: source.into() })
}

/// Tells probe-rs's events as stages.
struct Stages<'a> {
    content: Content,
    progress: &'a dyn Progress,
    /// Bytes of each operation.
    totals: [u64; 4],
    /// Bytes of the one at work.
    done: u64,
    /// The sectors that probe-rs erases.
    erased: Vec<Sector>,
}

impl Stages<'_> {
    fn follow(&mut self, event: ProgressEvent) {
        match event {
            ProgressEvent::FlashLayoutReady { flash_layout } => {
                let sectors = flash_layout.iter().flat_map(|layout| layout.sectors());
                self.erased.extend(sectors.map(|sector| Sector { address: sector.address(), bytes: sector.size() }));
            }
            ProgressEvent::AddProgressBar { operation, total } => {
                self.totals[operation as usize] += total.unwrap_or(0);
            }
            ProgressEvent::Started(operation) => {
                self.done = 0;
                let stage = format!("{} {}", verb(operation), self.content);
                self.progress.begin(&stage, self.totals[operation as usize], "bytes");
            }
            ProgressEvent::Progress { size, .. } => {
                self.done += size;
                self.progress.done(self.done);
            }
            ProgressEvent::Failed(_) => self.progress.end("failed"),
            ProgressEvent::Finished(_) => self.progress.end("done"),
            ProgressEvent::DiagnosticMessage { message } => self.progress.note(&message),
        }
    }
}

fn verb(operation: ProgressOperation) -> &'static str {
    match operation {
        ProgressOperation::Fill => "read",
        ProgressOperation::Erase => "erase",
        ProgressOperation::Program => "program",
        ProgressOperation::Verify => "compare",
    }
}
