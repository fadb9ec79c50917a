//! The job of `host-eval`: how good the rungs of bundles are at what people use
//! embeddings for.
//!
//! | module | measures |
//! |---|---|
//! | [`observation`] | what the engine computes for every image at every rung, and its cosine to the dense model |
//! | [`integer`] | the same in eight-bit integers |
//! | [`gpu`] | the same on GPUs |
//! | [`nearest_neighbours`] | weighted k-NN top-1, from a bank of labelled images |
//! | [`linear_probe`] | top-1 of a linear classifier fitted on the bank's embeddings |
//! | [`accuracy`] | shares and means with their confidence intervals |
//!
//! Labels are the names of sub-folders and are used here alone: nothing that
//! makes a bundle sees them. *Fidelity* is the mean cosine of the pooled
//! embedding to that of the dense model; *patch fidelity* the same of each patch
//! token after the final norm, which dense tasks (segmentation, depth) read.
//!
//! On the CPU rungs run with the engine that the device runs, on GPUs with candle, which computes the same in f32 but for
//! rounding.

pub mod accuracy;
mod chart;
mod error;
mod features;
mod gpu;
mod integer;
mod labelled_images;
mod linear_probe;
pub mod nearest_neighbours;
mod observation;
mod options;
mod report;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use headroom_device::bundle::Bundle;
use headroom_device::images::Preprocessor;
use headroom_device::run::Precision;
use headroom_device::switch::RungTable;

use crate::executor::{self, ChosenDevices, DeviceChoice};
use crate::progress::Progress;
use accuracy::{Accuracy, Mean};
use gpu::GpuRungs;
use integer::IntegerRungs;
use labelled_images::LabelledImages;
use observation::{Observations, RungEngine, observe};

pub use error::EvalError;
pub use options::Options;
pub use report::{BundleReport, EVAL_VERSION, EvalReport, FolderReport, RungReport};

/// Runs the job.
///
/// # Errors
/// See [`EvalError`].
pub fn run(options: &Options, progress: &dyn Progress, interrupt: &AtomicBool) -> Result<EvalReport, EvalError> {
    let choice = match (options.precision, &options.device) {
        (Precision::Int8, DeviceChoice::Cuda(_) | DeviceChoice::AllCuda) => return Err(EvalError::IntegersOnGpu),
        (Precision::Int8, _) => &DeviceChoice::Cpu,
        (Precision::F32 | Precision::F16, choice) => choice,
    };
    let devices = executor::choose(choice)?.in_precision(options.gpu_precision);
    run_on(options, &devices, progress, interrupt)
}

/// [`run`] on these devices, whatever `--device` says.
///
/// # Errors
/// As [`run`].
pub fn run_on(
    options: &Options,
    devices: &ChosenDevices,
    progress: &dyn Progress,
    interrupt: &AtomicBool,
) -> Result<EvalReport, EvalError> {
    if let Some(reason) = &devices.reason {
        progress.note(reason);
    }
    let query = LabelledImages::find(&options.query, progress)?;
    let bank = options.bank.as_deref().map(|bank| LabelledImages::find(bank, progress)).transpose()?;
    let mut bundles = Vec::with_capacity(options.bundles.len());
    for path in &options.bundles {
        bundles.push(evaluate(path, options, devices, bank.as_ref(), &query, progress, interrupt)?);
    }
    let report = EvalReport {
        version: EVAL_VERSION,
        query: FolderReport::of(&options.query, &query),
        bank: bank.as_ref().zip(options.bank.as_deref()).map(|(bank, path)| FolderReport::of(path, bank)),
        precision: options.precision,
        device: devices.name(),
        gpu_precision: (!devices.gpus.is_empty()).then_some(devices.precision),
        neighbours: options.neighbours,
        temperature: options.temperature,
        bundles,
    };
    if let Some(path) = &options.svg {
        chart::write(path, &report)?;
    }
    Ok(report)
}

fn evaluate(
    path: &Path,
    options: &Options,
    devices: &ChosenDevices,
    bank: Option<&LabelledImages>,
    query: &LabelledImages,
    progress: &dyn Progress,
    interrupt: &AtomicBool,
) -> Result<BundleReport, EvalError> {
    let bundle = Bundle::open(path).map_err(|source| EvalError::Bundle { path: path.to_path_buf(), source })?;
    let map = bundle.structure_map();
    let table = RungTable::new(&map);
    let (engine, rungs, left_out) = match options.precision {
        // `--gpu-precision` says what GPUs compute in.
        Precision::F32 | Precision::F16 => {
            let rungs = options.rungs_of(map.rungs().len())?;
            let on_cpu = devices.gpus.is_empty();
            let gpus = || GpuRungs::load(path, &bundle, devices).map(RungEngine::Gpus);
            (if on_cpu { RungEngine::Cpu } else { gpus()? }, rungs, Vec::new())
        }
        Precision::Int8 => {
            let no_model = || EvalError::NoIntegerModel { path: path.to_path_buf() };
            let integers = IntegerRungs::of(&bundle).ok_or_else(no_model)?;
            let (held, left_out) = held(&integers, &table, options.rungs_of(map.rungs().len())?, path)?;
            (RungEngine::Integers(Box::new(integers)), held, left_out)
        }
    };
    let integers = engine.integers();
    let preprocessor = Preprocessor::new(&bundle.description().image)?;
    let name = report::name_of(path);
    if !left_out.is_empty() {
        progress.note(&format!("{name}: {} left out: not in the integer model", report::list(&left_out)));
    }
    let see = |images: &LabelledImages, folder: &str, dense_too: bool| {
        progress.begin(&format!("{name}: {folder}"), images.files.len() as u64, "images");
        let seen = observe(&bundle, &engine, &rungs, images, &preprocessor, dense_too, progress, interrupt)?;
        progress.end(&format!("{} images at {} rungs", seen.labels.len(), rungs.len()));
        Ok::<_, EvalError>(seen)
    };
    let seen = see(query, "query", true)?;
    let known = bank.map(|bank| see(bank, "bank", false)).transpose()?;

    if let Some(folder) = &options.features {
        features::write(folder, &name, &bundle, &rungs, known.as_ref(), &seen)?;
    }
    let dense_macs = map.rungs()[0].macs as f64;
    progress.begin(&format!("{name}: labels"), rungs.len() as u64, "rungs");
    let mut reports = Vec::with_capacity(rungs.len());
    for (place, &rung) in rungs.iter().enumerate() {
        let sub_network = &table.sub_networks()[rung];
        let labelled =
            known.as_ref().zip(bank).map(|(known, bank)| labelled(options, bank, known, query, &seen, place));
        let (nearest, probe) = labelled.transpose()?.unwrap_or_default();
        reports.push(RungReport {
            rung,
            macs: map.rungs()[rung].macs,
            macs_share: map.rungs()[rung].macs as f64 / dense_macs,
            weight_bytes: map.rungs()[rung].weight_bytes,
            token_schedule: sub_network.token_schedule().to_vec(),
            corrected: match integers {
                Some(integers) => integers.kept(rung, sub_network).correction.is_some(),
                None => bundle.corrected(rung, sub_network).correction.is_some(),
            },
            fidelity: Mean::of(&seen.rungs[place].pooled_cosines),
            fidelity_to_f32: integers.is_some().then(|| Mean::of(&seen.rungs[place].f32_cosines)),
            patch_fidelity: Mean::of(&seen.rungs[place].patch_cosines),
            nearest_neighbours: nearest,
            linear_probe: probe,
            head: head(&bundle, query, &seen, place),
        });
        progress.done(place as u64 + 1);
    }
    progress.end(&format!("{} rungs judged", rungs.len()));
    Ok(BundleReport { name, bundle: path.to_path_buf(), sha256: bundle.hash().to_owned(), rungs: reports, left_out })
}

/// The rungs that the integer model holds, and the others.
fn held(
    integers: &IntegerRungs<'_>,
    table: &RungTable,
    rungs: Vec<usize>,
    path: &Path,
) -> Result<(Vec<usize>, Vec<usize>), EvalError> {
    let check = |rung: usize| integers.check(rung, &table.sub_networks()[rung]);
    let (held, left_out): (Vec<_>, Vec<_>) = rungs.into_iter().partition(|rung| check(*rung).is_ok());
    match left_out.last().map(|last| check(*last)) {
        Some(Err(source)) if held.is_empty() => Err(EvalError::NoRungInIntegers { path: path.to_path_buf(), source }),
        _ => Ok((held, left_out)),
    }
}

/// k-NN and linear probe at a rung, both from the bank at the same rung.
fn labelled(
    options: &Options,
    bank: &LabelledImages,
    known: &Observations,
    query: &LabelledImages,
    seen: &Observations,
    place: usize,
) -> Result<(Option<Accuracy>, Option<Accuracy>), EvalError> {
    let right = |found: &[usize]| {
        let names = found.iter().zip(&seen.labels);
        let right = names.filter(|(found, label)| bank.classes[**found] == query.classes[**label]).count();
        Accuracy::of(right, found.len())
    };
    let (bank_rows, query_rows) = (&known.rungs[place].pooled, &seen.rungs[place].pooled);
    let bank_labels = nearest_neighbours::Bank {
        embeddings: bank_rows,
        labels: &known.labels,
        classes: bank.classes.len(),
        width: known.embed_dim,
    };
    let nearest = nearest_neighbours::classify(bank_labels, query_rows, options.neighbours, options.temperature);
    let probe = if options.no_probe || bank.classes.len() < 2 {
        None
    } else {
        let probe = linear_probe::fit(bank_rows, &known.labels, known.embed_dim)?;
        Some(right(&probe.classify(query_rows)))
    };
    Ok((Some(right(&nearest)), probe))
}

/// Top-1 of the model's own head, where its labels are the folder's.
fn head(bundle: &Bundle, query: &LabelledImages, seen: &Observations, place: usize) -> Option<Accuracy> {
    let predicted = seen.rungs[place].predicted.as_ref()?;
    let labels = bundle.description().labels.as_ref()?;
    let known = query.classes.iter().all(|class| labels.contains(class));
    let right = |(found, label): (&usize, &usize)| labels.get(*found) == Some(&query.classes[*label]);
    known.then(|| Accuracy::of(predicted.iter().zip(&seen.labels).filter(|pair| right(*pair)).count(), predicted.len()))
}
