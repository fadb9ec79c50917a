//! What a job does on GPUs, on a machine without one: the CPU called by that name runs the same code.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use candle_core::Device;
use clap::Parser;
use headroom_host::executor::{ChosenDevices, GpuPrecision};
use headroom_host::progress::Silent;
use headroom_host::prune::{Options, PruneReport, run_on};

static NEVER: AtomicBool = AtomicBool::new(false);

/// So many GPUs, which are the CPU.
fn called_gpus(count: usize, precision: GpuPrecision) -> ChosenDevices {
    let devices = vec![Device::Cpu; count];
    ChosenDevices { devices, gpus: (0..count).collect(), precision, reason: None }
}

fn job(out: &Path, devices: ChosenDevices, more: &[&str]) -> PruneReport {
    let mut words =
        vec!["host-prune", "--target", "jetson-orin", "--images-limit", "6", "--rungs", "5", "--batch", "4"];
    words.extend(["--out", out.to_str().unwrap()]);
    words.extend(more);
    let ending = run_on(&Options::parse_from(words), devices, &Silent, &NEVER).unwrap();
    assert!(ending.failure.is_none() && !ending.interrupted);
    ending.report
}

fn fidelities(report: &PruneReport) -> Vec<f32> {
    report.ladder.iter().map(|rung| rung.fidelity).collect()
}

#[test]
fn a_job_on_gpus_is_that_of_the_cpu_but_for_rounding() {
    let home = tempfile::tempdir().unwrap();
    for (name, more) in [
        ("tokens", &["--tokens", "on"][..]),
        ("search", &["--method", "snapvit", "--evaluations", "4", "--compensate", "sequential"][..]),
    ] {
        let run = |folder: &str, devices| job(&home.path().join(format!("{name}-{folder}")), devices, more);
        let cpu = run("cpu", ChosenDevices::cpu());
        let one = run("one", called_gpus(1, GpuPrecision::F32));
        let three = run("three", called_gpus(3, GpuPrecision::F32));
        assert_eq!(one.bundle_sha256, three.bundle_sha256, "{name}: the number of GPUs changes nothing");
        let (cpu, one) = (fidelities(&cpu), fidelities(&one));
        println!("{name}: cpu {cpu:?}, gpu {one:?}");
        assert_eq!(cpu.len(), one.len(), "{name}");
        for (cpu, one) in cpu.iter().zip(&one) {
            assert!((cpu - one).abs() < 1e-3, "{name}: {cpu} and {one}");
        }
    }
}

#[test]
fn half_types_give_nearly_the_same_ladder() {
    let home = tempfile::tempdir().unwrap();
    let run = |precision| {
        let out = home.path().join(format!("{precision:?}"));
        fidelities(&job(&out, called_gpus(1, precision), &[]))
    };
    let expected = run(GpuPrecision::F32);
    for precision in [GpuPrecision::Bf16, GpuPrecision::F16] {
        let found = run(precision);
        println!("{precision:?}: {found:?}, f32 {expected:?}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 0.02, "{precision:?}: {found} and {expected}");
        }
    }
}
