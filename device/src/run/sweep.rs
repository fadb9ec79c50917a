//! `--sweep`: the latency of every rung on this machine.

use std::io::Write;
use std::path::Path;

use headroom_shared::{Rung, TimeSpan};
use serde::Serialize;

use super::output::{OUTPUT_VERSION, write_line};
use super::{Arguments, RunError};
use crate::bundle::Bundle;
use crate::calibration::RungTimer;

/// One rung of the sweep.
#[derive(Clone, Debug, Serialize)]
struct Line {
    version: u32,
    rung: usize,
    macs: u64,
    macs_share: f64,
    weight_bytes: u64,
    fidelity: f32,
    median_ms: f64,
    fastest_ms: f64,
    slowest_ms: f64,
    latency_share: f64,
    /// What the governor would be told.
    known_ms: f64,
    /// `measured`, or `estimated` for the board's processor.
    known_origin: String,
}

/// Times every rung ([`RungTimer::take_turns`]), and shows beside it what was known of its latency.
pub(super) fn run(bundle: &Bundle, path: &Path, arguments: &Arguments) -> Result<(), RunError> {
    let map = bundle.structure_map();
    let found = arguments.found_profile(bundle, path)?;
    anstream::eprintln!("{found}");
    let known = match found.profile() {
        Some(profile) => profile.overlay(map.rungs())?,
        None => map.rungs().to_vec(),
    };
    let times = RungTimer::with_threads(bundle, arguments.threads()).take_turns(arguments.repetitions)?;
    let (dense_ms, dense_macs) = (milliseconds(times[0].median()), map.rungs()[0].macs);
    let lines = known.iter().zip(&times).enumerate().map(|(index, (rung, times))| Line {
        version: OUTPUT_VERSION,
        rung: index,
        macs: rung.macs,
        macs_share: share(rung, dense_macs),
        weight_bytes: rung.weight_bytes,
        fidelity: rung.fidelity,
        median_ms: milliseconds(times.median()),
        fastest_ms: milliseconds(times.fastest()),
        slowest_ms: milliseconds(times.slowest()),
        latency_share: milliseconds(times.median()) / dense_ms,
        known_ms: milliseconds(rung.latency().value),
        known_origin: rung.latency().origin.to_string(),
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
        writeln!(
            out,
            "{:>4}  {:>5.1} %   {:>8.4}   {:>9.3}   {:>6.1} %   {:>7.3}   {:>7.3}   {:>7.3} {}",
            line.rung,
            line.macs_share * 100.0,
            line.fidelity,
            line.median_ms,
            line.latency_share * 100.0,
            line.fastest_ms,
            line.slowest_ms,
            line.known_ms,
            line.known_origin
        )?;
    }
    Ok(())
}

fn share(rung: &Rung<'_>, dense_macs: u64) -> f64 {
    rung.macs as f64 / dense_macs as f64
}

pub(super) fn milliseconds(span: TimeSpan) -> f64 {
    span.as_seconds() * 1e3
}
