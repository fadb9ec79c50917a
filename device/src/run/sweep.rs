//! `--sweep`: the latency of every rung on this machine.

use std::io::Write;
use std::time::Instant;

use headroom_shared::Rung;
use serde::Serialize;

use super::RunError;
use super::output::OUTPUT_VERSION;
use crate::bundle::Bundle;
use crate::images::Preprocessor;
use crate::switch::RungTable;

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
}

/// Times every rung, one synthetic frame at a time. The rungs take turns, so
/// that a busy machine slows all of them and not one.
pub(super) fn run(bundle: &Bundle, threads: usize, repetitions: u32, json: bool) -> Result<(), RunError> {
    let map = bundle.structure_map();
    let table = RungTable::new(&map);
    let sub_networks = table.sub_networks();
    let frame = super::synthetic_frames(bundle.description()).frame(0);
    let frame = Preprocessor::new(&bundle.description().image)?.evaluation(&frame)?;
    let mut workspace = bundle.vit().workspace_with_threads(1, threads);
    let mut times = vec![Vec::with_capacity(repetitions as usize); sub_networks.len()];
    // The first turn warms caches and is not counted.
    for turn in 0..=repetitions {
        for (rung, (sub_network, times)) in sub_networks.iter().zip(&mut times).enumerate() {
            let kept = bundle.corrected(rung, sub_network);
            let start = Instant::now();
            bundle.vit().embed(&mut workspace, &frame, 1, &kept)?;
            if turn > 0 {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    for times in &mut times {
        times.sort_by(f64::total_cmp);
    }
    let median = |times: &[f64]| times[times.len() / 2];
    let (dense_ms, dense_macs) = (median(&times[0]), map.rungs()[0].macs);
    let lines = map.rungs().iter().zip(&times).enumerate().map(|(index, (rung, times))| Line {
        version: OUTPUT_VERSION,
        rung: index,
        macs: rung.macs,
        macs_share: share(rung, dense_macs),
        weight_bytes: rung.weight_bytes,
        fidelity: rung.fidelity,
        median_ms: median(times),
        fastest_ms: times[0],
        slowest_ms: times[times.len() - 1],
        latency_share: median(times) / dense_ms,
    });
    let mut out = std::io::stdout().lock();
    if json {
        for line in lines {
            serde_json::to_writer(&mut out, &line).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        return Ok(());
    }
    writeln!(out, "rung    MACs   fidelity   median ms   of dense   fastest   slowest")?;
    for line in lines {
        writeln!(
            out,
            "{:>4}  {:>5.1} %   {:>8.4}   {:>9.3}   {:>6.1} %   {:>7.3}   {:>7.3}",
            line.rung,
            line.macs_share * 100.0,
            line.fidelity,
            line.median_ms,
            line.latency_share * 100.0,
            line.fastest_ms,
            line.slowest_ms
        )?;
    }
    Ok(())
}

fn share(rung: &Rung<'_>, dense_macs: u64) -> f64 {
    rung.macs as f64 / dense_macs as f64
}
