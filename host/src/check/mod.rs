//! The job of `host-check`: on one machine, everything against a reference, and how long it takes.
//!
//! | stage | what is compared |
//! |---|---|
//! | `parity` | golden cases with what PyTorch computed, and the demo model between the executors |
//! | `prune` | a small job with the same job on the CPU |
//! | `elastic` | every rung with the CPU engine on one thread |
//! | `switch` | every rung after others with what it gave before |
//!
//! `comparison` has the limits, each with its reason.

mod comparison;
mod error;
mod job;
mod options;
mod parity;
mod report;
mod rungs;
mod subject;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use candle_core::Tensor;
use headroom_device::bundle::Bundle;
use headroom_device::measured_profile::machine_name;
use headroom_device::switch::RungTable;
use headroom_device::whole_file;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

pub use comparison::Measure;
use comparison::Outputs;
pub use error::CheckError;
pub use options::Options;
pub use report::{Check, CheckReport, CheckedDevice, Machine, REPORT_VERSION, RungTimes, Stage};

use crate::demo;
use crate::executor::{self, ChosenDevices, ExecutorError};
use crate::progress::Progress;
use subject::{Model, Subject};

/// A check on its way.
struct Checking<'a> {
    options: &'a Options,
    progress: &'a dyn Progress,
    interrupt: &'a AtomicBool,
    chosen: ChosenDevices,
    stages: Vec<Stage>,
    checks: Vec<Check>,
    left_out: Vec<String>,
}

/// Runs the check.
///
/// # Errors
/// If it cannot be made. What disagrees is in the report.
pub fn run(options: &Options, progress: &dyn Progress, interrupt: &AtomicBool) -> Result<CheckReport, CheckError> {
    let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let chosen = executor::choose(&options.device.into())?;
    if let Some(reason) = &chosen.reason {
        progress.note(reason);
    }
    let (stages, checks, left_out) = (Vec::new(), Vec::new(), Vec::new());
    let mut checking = Checking { options, progress, interrupt, chosen, stages, checks, left_out };
    checking.stage("parity", Checking::parity)?;
    let home = tempfile::tempdir().map_err(CheckError::Temporary)?;
    let job = checking.stage("prune", |checking| checking.prune(home.path()))?;

    let (bundle, weights, corrections) = checking.stage("load", |_| {
        let bundle = Bundle::open(&job.bundle)?;
        let (weights, corrections) = bundle.read_weights(&job.bundle)?;
        Ok((bundle, weights, corrections))
    })?;
    let table = RungTable::new(&bundle.structure_map());
    let rungs = table.sub_networks().iter().enumerate();
    let rungs: Vec<_> = rungs.map(|(rung, kept)| bundle.corrected(rung, kept)).collect();
    let (description, engine) = (bundle.description(), bundle.vit());
    let model = Model { description, weights: &weights, corrections: &corrections, engine, rungs: &rungs };
    let pixels = image(engine.pixels(), options.seed);
    let gpu = checking.gpu();
    let mut subject = checking.stage("to the device", |checking| match Subject::new(gpu, &model) {
        Ok(subject) => Ok(Some(subject)),
        Err(error) => {
            let limit = (Measure::MissingRungs, comparison::NOTHING);
            checking.checks.push(Check::new("to the device", "device engine", "all rungs", limit, Err(error)));
            Ok(None)
        }
    })?;
    checking.stage("elastic", |checking| checking.elastic(subject.as_mut(), &model, &pixels))?;
    let times = checking.stage("switch", |checking| checking.switches(subject.as_mut(), &bundle, &pixels))?;

    let machine = Machine {
        name: machine_name(Path::new("/")),
        architecture: std::env::consts::ARCH,
        threads: threads(),
        operating_system: std::env::consts::OS,
    };
    let model = options.model.as_deref().map_or_else(|| demo::NAME.to_owned(), |path| path.display().to_string());
    let report = CheckReport {
        version: REPORT_VERSION,
        program: env!("CARGO_PKG_VERSION"),
        unix_seconds: began,
        device: subject.map_or_else(|| CheckedDevice::without_engine(gpu), |subject| subject.device(&machine.name)),
        machine,
        quick: options.quick,
        seed: options.seed,
        model,
        bundle_sha256: bundle.hash().to_owned(),
        passed: checking.checks.iter().all(|check| check.passed),
        stages: checking.stages,
        checks: checking.checks,
        left_out: checking.left_out,
        rungs: times,
    };
    Ok(report)
}

/// Writes a report to where `--json` says, if it does.
///
/// # Errors
/// If it cannot be written: nothing is then there, or what was there before.
pub fn write(options: &Options, report: &CheckReport) -> Result<(), CheckError> {
    let Some(path) = &options.json else { return Ok(()) };
    let write = || whole_file::write(path, &serde_json::to_vec_pretty(report)?);
    write().map_err(|source| CheckError::Write { path: path.clone(), source })
}

impl<'a> Checking<'a> {
    /// Runs a stage and records its time.
    fn stage<T>(
        &mut self,
        name: &'static str,
        run: impl FnOnce(&mut Self) -> Result<T, CheckError>,
    ) -> Result<T, CheckError> {
        self.stop_if_interrupted()?;
        let start = Instant::now();
        let result = run(self)?;
        let seconds = start.elapsed().as_secs_f64();
        self.progress.note(&format!("{name}: {seconds:.1} s"));
        self.stages.push(Stage { name: name.into(), seconds });
        Ok(result)
    }

    /// The GPU that is checked, if it is one.
    fn gpu(&self) -> Option<usize> {
        self.chosen.gpus.first().copied()
    }

    fn stop_if_interrupted(&self) -> Result<(), CheckError> {
        if self.interrupt.load(Ordering::Relaxed) { Err(CheckError::Interrupted) } else { Ok(()) }
    }
}

/// An image of so many values as of a normalised one, the same on every machine.
fn image(values: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..values).map(|_| StandardNormal.sample(&mut random)).collect()
}

/// The values of a tensor, wherever it is.
fn values(tensor: &Tensor) -> Result<Vec<f32>, ExecutorError> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

/// What candle computed.
fn outputs(output: &executor::Forward) -> Result<Outputs, ExecutorError> {
    Ok(Outputs { pooled: values(&output.pooled)?, logits: output.logits.as_ref().map(values).transpose()? })
}

/// Threads that this machine runs at once.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
