//! From a bundle, and a firmware where it is wanted, to a microcontroller that runs them: through a debug probe.
//!
//! | file | content |
//! |---|---|
//! | `options` | the options that only these boards have |
//! | [`firmware`] | what of an ELF file goes into the flash |
//! | [`plan`] | which sectors are erased and programmed; what must not be |
//! | [`estimate`] | how long that takes |
//! | `chip` | the sectors of a chip, from probe-rs |
//! | `probes` | finding the probe |
//! | `program` | erase, program, compare, restart |
//!
//! The bundle has a region of its own, so a new bundle needs no new firmware, and a new firmware leaves the bundle.
//! The firmware is written before the bundle; each is read back and compared before the next.
//!
//! Ctrl-C stops between the two. A second one stops at once, as pulling the cable does: the region that was being
//! written is incomplete then, which the checksums of the flash image tell the firmware, and the same command mends it.
//!
//! The last three files need the feature `probe`. Limits: CMSIS-DAP probes of version 1 (HID) are not built in; that
//! the chip is the one of the profile is not checked beyond its core, only that it holds what was written.

#[cfg(feature = "probe")]
mod chip;
mod error;
pub mod estimate;
pub mod firmware;
mod options;
pub mod plan;
#[cfg(feature = "probe")]
mod probes;
#[cfg(feature = "probe")]
mod program;
mod report;

use std::sync::atomic::AtomicBool;

use super::options::Options;
use crate::progress::Progress;

pub use error::ProbeError;
pub use options::ProbeOptions;
pub use report::{PROBE_VERSION, ProbeReport};

/// Plans, and unless only the plan is wanted writes, compares and restarts.
///
/// # Errors
/// If bundle, firmware and board do not fit together, there is not one probe to use, or writing fails.
#[cfg(feature = "probe")]
pub fn run(options: &Options, progress: &dyn Progress, interrupt: &AtomicBool) -> Result<ProbeReport, ProbeError> {
    use headroom_device::bundle::trust::Trust;
    use plan::{Content, Part, Piece};

    let target = options.target.clone();
    let board = crate::flash_image::board(&target)?;
    let Some(profile) = &board.probe.chip else { return Err(ProbeError::NoChip { target }) };
    let unusable = |source: chip::ChipError| ProbeError::Chip { target: target.clone(), source: source.into() };
    let chip = chip::find(&profile.name).map_err(unusable)?;

    let mut parts = Vec::new();
    if let Some(path) = &options.probe.firmware {
        let pieces = firmware::read(path, chip.core)?;
        parts.push(Part { content: Content::Firmware, region: board.memory_map.firmware_flash.value, pieces });
    }
    let trust = options.probe.trust.as_deref().map(Trust::load).transpose()?;
    // The command line has it for these boards.
    let folder = options.bundle.as_deref().unwrap_or_else(|| std::path::Path::new(""));
    let image = board.image(folder, trust.as_ref())?;
    let region = board.memory_map.bundle_flash.value;
    let pieces = vec![Piece { address: region.address.into(), data: image.bytes }];
    parts.push(Part { content: Content::Bundle, region, pieces });

    let writes = plan::plan(&chip.memories, &parts)?;
    let mut report = ProbeReport {
        version: PROBE_VERSION,
        chip: profile.name.to_string(),
        bundle: image.bundle,
        firmware: options.probe.firmware.clone(),
        estimate: estimate::Estimate::of(&writes, profile),
        writes,
        programmed: false,
        probe: None,
        target,
    };
    if !options.task.dry_run {
        report.probe = Some(write(options, &chip, &parts, &report, progress, interrupt)?);
        report.programmed = true;
    }
    Ok(report)
}

/// Writes the parts and returns the name of the probe.
#[cfg(feature = "probe")]
fn write(
    options: &Options,
    chip: &chip::Chip,
    parts: &[plan::Part],
    report: &ProbeReport,
    progress: &dyn Progress,
    interrupt: &AtomicBool,
) -> Result<String, ProbeError> {
    use std::sync::atomic::Ordering;

    let info = probes::find(options.probe.probe.as_deref())?;
    let name = info.to_string();
    let probe = probes::open(&info, options.probe.speed)?;
    let mut session = program::attach(probe, &name, &chip.target, options.probe.connect_under_reset)?;
    progress.note(&format!("{} through {name}, about {:.0} s", chip.target.name, report.estimate.seconds));
    let mut written = Vec::new();
    for part in parts {
        if interrupt.load(Ordering::SeqCst) {
            return Err(ProbeError::Interrupted { written });
        }
        let planned: Vec<_> = report.writes.iter().filter(|write| write.content == part.content).cloned().collect();
        program::write(&mut session, part, &planned, progress)?;
        written.push(part.content);
    }
    program::restart(&mut session)?;
    Ok(name)
}

/// Tells how to get what is not built in.
///
/// # Errors
/// Always.
#[cfg(not(feature = "probe"))]
pub fn run(options: &Options, _progress: &dyn Progress, _interrupt: &AtomicBool) -> Result<ProbeReport, ProbeError> {
    Err(ProbeError::NotBuiltIn { target: options.target.clone() })
}
