//! `--predict`: what a sub-network between the rungs would cost, from what was calibrated.

use std::path::Path;

use headroom_shared::{StructureMap, cost};
use serde::Serialize;

use super::calibrate::error_text;
use super::output::OUTPUT_VERSION;
use super::sweep::milliseconds;
use super::{Arguments, DeviceChoice, MacsBudget, RunError};
use crate::bundle::Bundle;
use crate::measured_profile::{Execution, Found, Key, MeasuredProfiles};
use crate::precision::Precision;
use crate::program;

#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    /// Steps of the ranking: the fewest that bring the MACs within the budget.
    steps: usize,
    macs: u64,
    latency_ms: f64,
    /// Mean and worst relative error; absent where there are too few rungs to know.
    latency_error: Option<[f64; 2]>,
    energy_mj: Option<f64>,
    energy_error: Option<[f64; 2]>,
}

pub(super) fn run(bundle: &Bundle, path: &Path, budget: MacsBudget, arguments: &Arguments) -> Result<(), RunError> {
    let map = bundle.structure_map();
    let found = found_profile(bundle, path, arguments)?;
    let profile = found.profile().ok_or_else(|| RunError::NotCalibrated { found: found.to_string() })?;
    anstream::eprintln!("{found}");
    let _fits_the_ladder = profile.overlay(map.rungs())?;
    let dense = map.rungs()[0].macs;
    let allowed = budget.of(dense);
    let (steps, macs) = within(&map, allowed);
    let smallest = profile.rungs()[profile.rungs().len() - 1].macs;
    let predicted = if macs <= allowed { profile.at(macs) } else { None };
    let predicted = predicted.ok_or(RunError::NotOnTheLadder { found: macs.min(allowed), smallest, dense })?;
    let report = Report {
        version: OUTPUT_VERSION,
        steps,
        macs,
        latency_ms: milliseconds(predicted.latency),
        latency_error: predicted.latency_error.map(|error| [error.mean, error.worst]),
        energy_mj: predicted.energy.map(|energy| energy.as_joules() * 1e3),
        energy_error: predicted.energy_error.map(|error| [error.mean, error.worst]),
    };
    let text = || {
        let mut text = format!("{steps} steps, {macs} MACs ({:.1} %)", macs as f64 / dense as f64 * 100.0);
        for (value, error) in [
            (Some(format!("{:.3} ms", report.latency_ms)), predicted.latency_error),
            (report.energy_mj.map(|energy| format!("{energy:.3} mJ")), predicted.energy_error),
        ] {
            let Some(value) = value else { continue };
            let error = error.map_or_else(|| "error not known".into(), error_text);
            text.push_str(&format!("\n{value} interpolated between measured rungs, {error}"));
        }
        text
    };
    Ok(program::print(arguments.json, &report, text)?)
}

/// What was measured where inferences would run. No GPU is opened: the one that was measured last is meant.
fn found_profile(bundle: &Bundle, path: &Path, arguments: &Arguments) -> Result<Found, RunError> {
    let (precision, threads) = (arguments.precision(), arguments.threads());
    let on_cpu = Execution { precision, threads, accelerator: None };
    let profiles = MeasuredProfiles::read(&arguments.profile_path(path))?;
    let is_of_gpu = |key: &&Key| key.precision == Precision::F16 && key.bundle_sha256 == bundle.hash();
    let of_gpu = profiles.profiles().iter().map(|profile| &profile.key).rfind(is_of_gpu);
    let accelerator = of_gpu.and_then(|key| key.accelerator.as_deref());
    let on_gpu = Execution { precision: Precision::F16, threads: 1, accelerator };
    let execution = match arguments.device() {
        DeviceChoice::Cpu => on_cpu,
        DeviceChoice::Cuda(_) => on_gpu,
        DeviceChoice::Auto if cfg!(feature = "cuda") && of_gpu.is_some() => on_gpu,
        DeviceChoice::Auto => on_cpu,
    };
    Ok(arguments.found_profile(bundle, path, execution)?)
}

/// The fewest steps that leave at most so many MACs, or all of them, and the MACs that are left.
fn within(map: &StructureMap<'_>, allowed: u64) -> (usize, u64) {
    let macs = |steps: usize| cost::macs(map.shape(), &map.sub_network_after(steps));
    // Every step removes something.
    let (mut low, mut high) = (0, map.steps().len());
    while low < high {
        let middle = (low + high) / 2;
        if macs(middle) <= allowed { high = middle } else { low = middle + 1 }
    }
    (low, macs(low))
}
