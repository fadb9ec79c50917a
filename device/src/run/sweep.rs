//! `--sweep`: the latency of every rung on this machine.

use std::io::Write;
use std::path::Path;

use headroom_shared::{Rung, TimeSpan};
use serde::Serialize;

use super::output::{OUTPUT_VERSION, write_line};
use super::{Arguments, RunError};
use crate::calibration::{RungTimer, RungTimes};
use crate::error_text::with_causes;
use crate::precision::Precision;
use crate::rung_engine::{RungEngine, RungEngineError};

/// One rung of the sweep.
#[derive(Clone, Debug, Serialize)]
struct Line {
    version: u32,
    precision: Precision,
    /// The name of what infers, where it is not the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    accelerator: Option<String>,
    rung: usize,
    macs: u64,
    macs_share: f64,
    weight_bytes: u64,
    fidelity: f32,
    /// The times are absent of a rung that cannot run, and the share also where the dense one cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    median_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fastest_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slowest_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_share: Option<f64>,
    /// Why it cannot run.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// What the governor would be told.
    known_ms: f64,
    /// `measured`, or `estimated` for the board's processor.
    known_origin: String,
}

/// Times every rung ([`RungTimer::take_turns`]) that can run, and shows beside it what was known of its latency.
pub(super) fn run(engine: &RungEngine, path: &Path, arguments: &Arguments) -> Result<(), RunError> {
    let map = engine.bundle().structure_map();
    let execution = engine.execution(arguments.threads());
    let found = arguments.found_profile(engine.bundle(), path, execution)?;
    anstream::eprintln!("{found}");
    let known = match found.profile() {
        Some(profile) => profile.overlay(map.rungs())?,
        None => map.rungs().to_vec(),
    };
    let checked: Vec<Result<(), RungEngineError>> = (0..known.len()).map(|rung| engine.check(rung)).collect();
    let run: Vec<usize> = (0..known.len()).filter(|rung| checked[*rung].is_ok()).collect();
    if run.is_empty() {
        return Err(RunError::NoRung);
    }
    let times = RungTimer::with_threads(engine, execution.threads).take_turns(&run, arguments.repetitions)?;
    let times_of = |rung: usize| run.iter().position(|run| *run == rung).map(|place| &times[place]);
    let (dense, dense_macs) = (times_of(0).map(RungTimes::median), map.rungs()[0].macs);
    let lines = known.iter().zip(&checked).enumerate().map(|(index, (rung, checked))| {
        let times = times_of(index);
        let median = times.map(RungTimes::median);
        Line {
            version: OUTPUT_VERSION,
            precision: execution.precision,
            accelerator: execution.accelerator.map(str::to_owned),
            rung: index,
            macs: rung.macs,
            macs_share: share(rung, dense_macs),
            weight_bytes: rung.weight_bytes,
            fidelity: rung.fidelity,
            median_ms: median.map(milliseconds),
            fastest_ms: times.map(|times| milliseconds(times.fastest())),
            slowest_ms: times.map(|times| milliseconds(times.slowest())),
            latency_share: median.zip(dense).map(|(median, dense)| milliseconds(median) / milliseconds(dense)),
            refused: checked.as_ref().err().map(|error| with_causes(error)),
            known_ms: milliseconds(rung.latency().value),
            known_origin: rung.latency().origin.to_string(),
        }
    });
    if arguments.json {
        for line in lines {
            write_line(&line)?;
        }
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "rung    MACs   fidelity   median ms   of dense   fastest   slowest   known before")?;
    for line in lines {
        let start = format!("{:>4}  {:>5.1} %   {:>8.4}", line.rung, line.macs_share * 100.0, line.fidelity);
        if let Some(refused) = line.refused {
            writeln!(out, "{start}   not timed: {refused}")?;
            continue;
        }
        writeln!(
            out,
            "{start}   {}   {} %   {}   {}   {:>7.3} {}",
            cell(line.median_ms, 9, 3),
            cell(line.latency_share.map(|share| share * 100.0), 6, 1),
            cell(line.fastest_ms, 7, 3),
            cell(line.slowest_ms, 7, 3),
            line.known_ms,
            line.known_origin
        )?;
    }
    Ok(())
}

/// A number with so many digits, or a dash, in a cell of a width.
fn cell(value: Option<f64>, width: usize, digits: usize) -> String {
    value.map_or_else(|| format!("{:>width$}", "-"), |value| format!("{value:>width$.digits$}"))
}

fn share(rung: &Rung<'_>, dense_macs: u64) -> f64 {
    rung.macs as f64 / dense_macs as f64
}

pub(super) fn milliseconds(span: TimeSpan) -> f64 {
    span.as_seconds() * 1e3
}
