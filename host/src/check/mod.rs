//! The job of `host-check`: prune, load, and then every rung against the CPU engine, checked and timed.

mod error;
mod options;
mod report;
mod subject;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::Parser;
use headroom_device::bundle::Bundle;
use headroom_device::whole_file;

pub use error::CheckError;
pub use options::Options;
pub use report::{CheckReport, REPORT_VERSION, RungCheck, Stage};

use crate::progress::Silent;
use crate::prune;
use subject::{Cpu, Subject};

/// Runs the check.
///
/// # Errors
/// If it cannot be made. A rung that disagrees is in the report.
pub fn run(options: &Options, interrupted: &AtomicBool) -> Result<CheckReport, CheckError> {
    let mut stages = Vec::new();
    let temporary = tempfile::tempdir().map_err(CheckError::Temporary)?;
    let path = match &options.bundle {
        Some(path) => path.clone(),
        None => timed(&mut stages, "prune", || prune_demo(temporary.path(), options.quick, interrupted))?,
    };
    let bundle = timed(&mut stages, "open", || {
        Bundle::open(&path).map_err(|source| CheckError::Bundle { path: path.clone(), source })
    })?;
    let mut subject = timed(&mut stages, "load", || Subject::new(options.device, &bundle, &path))?;
    let rungs = timed(&mut stages, "rungs", || check_rungs(&bundle, &mut subject, options.quick))?;
    let report = CheckReport {
        version: REPORT_VERSION,
        program: env!("CARGO_PKG_VERSION"),
        device: subject.name(),
        machine: format!(
            "{}, {} processors",
            std::env::consts::ARCH,
            std::thread::available_parallelism().map_or(1, usize::from)
        ),
        quick: options.quick,
        bundle_sha256: bundle.hash().to_owned(),
        passed: rungs.iter().all(|rung| rung.agrees),
        lowest_cosine: subject.lowest_cosine(),
        stages,
        rungs,
    };
    if let Some(out) = &options.out {
        let write = || whole_file::write(out, &serde_json::to_vec_pretty(&report)?);
        write().map_err(|source| CheckError::Write { path: out.clone(), source })?;
    }
    Ok(report)
}

fn timed<T>(
    stages: &mut Vec<Stage>,
    name: &str,
    stage: impl FnOnce() -> Result<T, CheckError>,
) -> Result<T, CheckError> {
    let start = Instant::now();
    let result = stage()?;
    stages.push(Stage { name: name.into(), seconds: start.elapsed().as_secs_f64() });
    Ok(result)
}

/// A bundle of the demo model.
fn prune_demo(folder: &Path, quick: bool, interrupted: &AtomicBool) -> Result<PathBuf, CheckError> {
    let out = folder.join("bundle");
    let mut words: Vec<std::ffi::OsString> = vec!["host-prune".into(), "--target".into(), "jetson-orin".into()];
    if quick {
        let small = ["--images-limit", "6", "--evaluations", "3", "--rungs", "5"];
        words.extend(small.map(Into::into));
    }
    words.extend(["--out".into(), out.clone().into_os_string()]);
    prune::run(&prune::Options::parse_from(words), &Silent, interrupted).map_err(Box::new)?;
    Ok(out)
}

/// Every rung on one image. Rungs take turns, each twice in a row: first after another one, then after itself. A first
/// turn warms up and is not counted.
fn check_rungs(bundle: &Bundle, subject: &mut Subject, quick: bool) -> Result<Vec<RungCheck>, CheckError> {
    let map = bundle.structure_map();
    // Values as of a normalised image, the same on every machine.
    let pixels: Vec<f32> = (0..bundle.vit().pixels()).map(|at| ((at * 7919) % 1013) as f32 / 253.0 - 2.0).collect();
    let mut reference = Cpu::new(bundle, 1);
    let turns = if quick { 3 } else { 100 };
    let mut times = vec![(Vec::new(), Vec::new()); map.rungs().len()];
    for turn in 0..=turns {
        for (rung, (after_switch, steady)) in times.iter_mut().enumerate() {
            for times in [after_switch, steady] {
                let (_, time) = subject.run(rung, &pixels)?;
                if turn > 0 {
                    times.push(time.as_seconds() * 1e3);
                }
            }
        }
    }
    let lowest = subject.lowest_cosine();
    let mut checks = Vec::with_capacity(times.len());
    for (rung, (after_switch, steady)) in times.into_iter().enumerate() {
        let (found, _) = subject.run(rung, &pixels)?;
        let (expected, _) = reference.run(rung, &pixels)?;
        let (cosine, largest_difference) = compare(&found, &expected);
        checks.push(RungCheck {
            rung,
            macs: map.rungs()[rung].macs,
            cosine,
            largest_difference,
            // Rounding of the cosine itself is no disagreement.
            agrees: cosine >= lowest - 1e-9,
            median_ms: median(steady),
            after_switch_ms: median(after_switch),
        });
    }
    Ok(checks)
}

/// The cosine, and the largest difference over the largest value. NaN agrees with nothing.
fn compare(found: &[f32], expected: &[f32]) -> (f64, f64) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let largest = expected.iter().fold(f64::MIN_POSITIVE, |largest, &value| largest.max(f64::from(value).abs()));
    let differences = found.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs());
    let difference =
        differences.fold(
            0.0,
            |largest: f64, difference| {
                if difference.is_nan() || difference > largest { difference } else { largest }
            },
        );
    let cosine = dot(found, expected) / (dot(found, found) * dot(expected, expected)).sqrt();
    (cosine, difference / largest)
}

/// The middle one of at least one; of two in the middle the longer.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embeddings_are_compared_by_direction_and_by_value() {
        let (cosine, difference) = compare(&[1.0, 2.0], &[1.0, 2.0]);
        assert!((cosine - 1.0).abs() < 1e-12 && difference == 0.0);
        let (cosine, difference) = compare(&[2.0, 0.0], &[0.0, 4.0]);
        assert!(cosine == 0.0 && difference == 1.0);
        let (cosine, difference) = compare(&[f32::NAN, 1.0], &[1.0, 1.0]);
        assert!(cosine.is_nan() && difference.is_nan());
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert!(median(vec![3.0, 1.0, 2.0]) == 2.0 && median(vec![2.0, 1.0]) == 2.0);
    }
}
