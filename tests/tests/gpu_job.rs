//! What jobs do on GPUs, on a machine without one: the CPU called by that name runs the same code.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::Device;
use clap::Parser;
use headroom_device::images::RgbImage;
use headroom_device::model::Weights;
use headroom_host::eval::{BundleReport, RungReport};
use headroom_host::executor::{ChosenDevices, GpuPrecision};
use headroom_host::progress::Silent;
use headroom_host::prune::{Ending, Options, PruneReport, run_on};
use headroom_host::{demo, eval};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

static NEVER: AtomicBool = AtomicBool::new(false);

/// So many GPUs, which are the CPU.
fn called_gpus(count: usize, precision: GpuPrecision) -> ChosenDevices {
    let devices = vec![Device::Cpu; count];
    ChosenDevices { devices, gpus: (0..count).collect(), precision, reason: None }
}

fn job(out: &Path, devices: ChosenDevices, more: &[&str]) -> Ending {
    let mut words =
        vec!["host-prune", "--target", "jetson-orin", "--images-limit", "6", "--rungs", "4", "--batch", "4"];
    words.extend(["--out", out.to_str().unwrap()]);
    words.extend(more);
    run_on(&Options::parse_from(words), devices, &Silent, &NEVER).unwrap()
}

fn whole_job(out: &Path, devices: ChosenDevices, more: &[&str]) -> PruneReport {
    let Ending { report, interrupted, failure } = job(out, devices, more);
    assert!(!interrupted && failure.is_none() && report.failure.is_none());
    report
}

fn fidelities(report: &PruneReport) -> Vec<f32> {
    report.ladder.iter().map(|rung| rung.fidelity).collect()
}

#[test]
fn jobs_on_gpus_are_those_of_the_cpu_but_for_rounding() {
    let home = tempfile::tempdir().unwrap();
    let tokens = ["--tokens", "on"];
    let search = ["--method", "snapvit", "--evaluations", "3", "--compensate", "sequential"];
    for (name, more, several) in [("tokens", &tokens[..], false), ("search", &search[..], true)] {
        let run = |folder: &str, devices| whole_job(&home.path().join(format!("{name}-{folder}")), devices, more);
        let cpu = run("cpu", ChosenDevices::cpu());
        let gpu = run("gpu", called_gpus(1, GpuPrecision::F32));
        assert_eq!((cpu.device.as_str(), gpu.device.as_str()), ("cpu", "cuda:0"));
        if several {
            let gpus = run("gpus", called_gpus(3, GpuPrecision::F32));
            assert_eq!(gpus.bundle_sha256, gpu.bundle_sha256, "{name}: the number of GPUs changes nothing");
        }
        let (cpu, gpu) = (fidelities(&cpu), fidelities(&gpu));
        println!("{name}: CPU {cpu:?}, GPU {gpu:?}");
        assert_eq!(cpu.len(), gpu.len(), "{name}");
        assert!(cpu.iter().zip(&gpu).all(|(cpu, gpu)| (cpu - gpu).abs() < 1e-3), "{name}: {cpu:?} and {gpu:?}");
    }
    evaluations_agree(&["tokens-cpu", "search-cpu"].map(|bundle| home.path().join(bundle)), home.path());
}

/// More images than a GPU has together.
fn evaluations_agree(bundles: &[PathBuf], home: &Path) {
    let query = home.join("query");
    for (class, shade) in [("airplane", 40), ("bird", 200)] {
        fs::create_dir_all(query.join(class)).unwrap();
        for number in 0..70 {
            let image = RgbImage::from_fn(32, 32, |x, y| [shade, (x * number) as u8, (y * 7) as u8].into());
            image.save(query.join(class).join(format!("{number}.png"))).unwrap();
        }
    }
    let words = ["host-eval".as_ref(), "--query".as_ref(), query.as_os_str()];
    let options = eval::Options::parse_from(words.into_iter().chain(bundles.iter().map(|bundle| bundle.as_os_str())));
    let rungs = |bundle: BundleReport| bundle.rungs;
    let run = |devices| -> Vec<RungReport> {
        let report = eval::run_on(&options, &devices, &Silent, &NEVER).unwrap();
        report.bundles.into_iter().flat_map(rungs).collect()
    };
    let (cpu, gpus) = (run(ChosenDevices::cpu()), run(called_gpus(2, GpuPrecision::F32)));
    assert_eq!(cpu.len(), gpus.len());
    for (cpu, gpus) in cpu.iter().zip(&gpus) {
        let pairs = [(cpu.fidelity, gpus.fidelity), (cpu.patch_fidelity, gpus.patch_fidelity)];
        for (cpu, gpus) in pairs {
            assert!((cpu.value - gpus.value).abs() < 1e-5, "{} and {}", cpu.value, gpus.value);
        }
        assert!(cpu.head.is_some());
        assert_eq!(cpu.head, gpus.head);
    }
    assert!(cpu.iter().any(|rung| rung.token_schedule.iter().any(|&merged| merged > 0)), "a rung merges tokens");
    assert!(cpu.iter().any(|rung| rung.corrected), "a rung is corrected");
}

#[test]
fn bf16_gives_nearly_the_same_ladder() {
    let home = tempfile::tempdir().unwrap();
    let run = |precision| {
        let out = home.path().join(format!("{precision:?}"));
        fidelities(&whole_job(&out, called_gpus(1, precision), &["--compensate", "none"]))
    };
    let (expected, found) = (run(GpuPrecision::F32), run(GpuPrecision::Bf16));
    println!("bf16 {found:?}, f32 {expected:?}");
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 0.02));
}

/// A class token that f16 has no number for.
#[test]
fn what_a_gpu_cannot_judge_the_cpu_does_and_the_report_says_so() {
    let home = tempfile::tempdir().unwrap();
    let model = home.path().join("model");
    fs::create_dir(&model).unwrap();
    let weights = Weights::from_safetensors(demo::WEIGHTS).unwrap();
    let tensors: Vec<_> = weights
        .iter()
        .map(|(name, tensor)| {
            let scale = if name == "cls_token" { 1e6 } else { 1.0 };
            let bytes: Vec<u8> = tensor.data.iter().flat_map(|value| (value * scale).to_le_bytes()).collect();
            (name.to_owned(), tensor.shape.clone(), bytes)
        })
        .collect();
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    fs::write(model.join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    fs::write(model.join("config.json"), demo::CONFIG).unwrap();
    let more = ["--method", "magnitude", "--model", model.to_str().unwrap()];
    let out = home.path().join("bundle");
    let ending = job(&out, called_gpus(1, GpuPrecision::F16), &more);
    let failure = ending.failure.unwrap();
    assert_eq!(failure.to_string(), "the stage `ladder` on the GPU gave values that are not finite");
    assert!(failure.hint().unwrap().contains("--gpu-precision f32"));
    let report = serde_json::to_value(&ending.report).unwrap();
    assert!(report["failure"].as_str().unwrap().contains("`ladder` on the GPU"), "{report}");
    assert_eq!(report["gpu_precision"], "f16");
    assert!(fidelities(&ending.report).iter().all(|fidelity| fidelity.is_finite()));
    assert!(out.join("manifest.json").exists());
}
