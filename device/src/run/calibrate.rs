//! `--calibrate`: measures every rung on this machine and keeps the result for the governor.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use headroom_shared::{TimeSpan, board_file};
use serde::Serialize;

use super::output::OUTPUT_VERSION;
use super::sweep::milliseconds;
use super::{Arguments, RunError};
use crate::bundle::Bundle;
use crate::calibration::{Dwell, RungTimer, calibrate};
use crate::measured_profile::{InterpolationError, Key, MeasuredProfile, MeasuredProfiles};
use crate::program;
use crate::reading::Measurement;
use crate::rung_engine::RungEngine;
use crate::sources::Sensors;

/// What was measured, as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    version: u32,
    file: PathBuf,
    profile: &'a MeasuredProfile,
}

pub(super) fn run(engine: &RungEngine, path: &Path, arguments: &Arguments) -> Result<(), RunError> {
    let bundle = engine.bundle();
    let file = arguments.profile_path(path);
    // Refused before minutes are spent.
    let mut profiles = MeasuredProfiles::read(&file)?;
    let mut sensors = sensors(bundle, &arguments.root);
    let execution = engine.execution(arguments.threads());
    let key = Key::of(&arguments.root, &mut sensors, execution, bundle.hash());
    anstream::eprintln!("measuring {} rungs on {key}", bundle.structure_map().rungs().len());
    let half = arguments.power_seconds / 2;
    let start = Instant::now();
    let power = || sensors.read(start.elapsed().into()).power;
    let mut timer = RungTimer::with_threads(engine, execution.threads);
    let dwell = Dwell { settle: half, measure: half };
    let profile = calibrate(&mut timer, key, arguments.repetitions, dwell, power)?;
    profiles.insert(profile.clone());
    profiles.write(&file)?;
    let report = Report { version: OUTPUT_VERSION, file, profile: &profile };
    Ok(program::print(arguments.json, &report, || table(&report))?)
}

/// The sensors that the bundle's board profile names if they tell a power, or else those of the machine.
fn sensors(bundle: &Bundle, root: &Path) -> Sensors {
    // The bundle was opened, so that its profile can be read.
    let board = board_file::parse(bundle.board()).ok();
    let mut of_board = Sensors::discover(root, board.as_ref());
    match of_board.read(TimeSpan::from_nanoseconds(0)).power {
        Measurement::Missing(_) => Sensors::discover(root, None),
        Measurement::Measured(_) | Measurement::Projected { .. } => of_board,
    }
}

fn table(report: &Report<'_>) -> String {
    let profile = report.profile;
    let mut text = "rung    MACs   measured ms   measured mJ\n".to_owned();
    let dense = profile.rungs()[0].macs;
    for (index, rung) in profile.rungs().iter().enumerate() {
        let share = rung.macs as f64 / dense as f64 * 100.0;
        let energy = rung.energy.map_or_else(|| "-".into(), |energy| format!("{:.3}", energy.as_joules() * 1e3));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{index:>4}  {share:>5.1} %   {:>11.3}   {energy:>11}", milliseconds(rung.latency));
    }
    for (what, error) in [("latency", profile.interpolation.latency), ("energy", profile.interpolation.energy)] {
        if let Some(error) = error {
            let _ = writeln!(text, "between rungs, {what} by straight lines over MACs: {}", error_text(error));
        }
    }
    let _ = write!(text, "written to {}", report.file.display());
    text
}

/// How far off an interpolation is.
pub(super) fn error_text(error: InterpolationError) -> String {
    let [mean, worst] = [error.mean, error.worst].map(|share| share * 100.0);
    format!("off by {mean:.1} % on average and {worst:.1} % at worst (each rung predicted from its two neighbours)")
}
