//! Importance against the golden gradient statistics and against brute force.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Device, Tensor};
use headroom_device::model::description::Mlp;
use headroom_device::model::{Description, Weights};

use super::loss::loss;
use super::{FisherForm, Importance, ImportanceError, Options, Views, estimate};
use crate::executor::testing::{cases_with, difference, difference_of, open, pixels, tensors, tiny};
use crate::executor::{BlockGradient, CandleVit};

const CPU: Device = Device::Cpu;
static NEVER: AtomicBool = AtomicBool::new(false);

fn run(model: &CandleVit, images: &[Views], form: FisherForm, workers: usize) -> Result<Importance, ImportanceError> {
    let options = Options { form, workers: NonZeroUsize::new(workers).unwrap(), interrupt: &NEVER };
    estimate(std::slice::from_ref(model), images.iter().cloned().map(Ok::<_, Infallible>), options, &|_| {})
}

fn model(description: &Description, weights: &Weights, dtype: DType) -> CandleVit {
    CandleVit::load(description, weights, &CPU, dtype).unwrap()
}

/// Image by image, `[views, 3, height, width]` of a tensor with one more dimension in front.
fn images(views: &Tensor, global: usize) -> Vec<Views> {
    let count = views.dim(0).unwrap();
    let image = |index: usize| {
        let image = views.get(index).unwrap();
        let pixels = image.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        Views { pixels, views: image.dim(0).unwrap(), global }
    };
    (0..count).map(image).collect()
}

#[test]
fn statistics_equal_the_references_of_every_case() {
    for case in cases_with("grad_io.safetensors") {
        let (description, weights) = open(&case.folder, None).unwrap();
        let meta: serde_json::Value =
            serde_json::from_slice(&std::fs::read(case.folder.join("META.json")).unwrap()).unwrap();
        let global = meta["grad"]["teacher_views"].as_array().unwrap().len();
        let reference = tensors(&case.folder.join("grad_io.safetensors"));
        let images = images(&reference["views"], global);
        // f32 is the fused form, f64 the composite one.
        for dtype in [DType::F32, DType::F64] {
            let model = model(&description, &weights, dtype);
            for (form, prefix) in [(FisherForm::PerImage, "fisher"), (FisherForm::Accumulated, "gradsq")] {
                let found = run(&model, &images, form, 2).unwrap();
                for block in 0..model.depth() {
                    for (kind, found) in [("head", &found.heads[block]), ("mlp", &found.neurons[block])] {
                        let name = format!("{prefix}_{kind}.{block}");
                        let expected = reference[&name].to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
                        let difference = difference_of(found, &expected);
                        assert!(difference <= 1e-4, "{} {dtype:?} {name}: {difference:e}", case.name);
                    }
                }
            }
        }
    }
}

#[test]
fn losses_embeddings_and_raw_gradients_equal_the_references() {
    for case in cases_with("grad_io.safetensors") {
        let (description, weights) = open(&case.folder, None).unwrap();
        let model = model(&description, &weights, DType::F32);
        let reference = tensors(&case.folder.join("grad_io.safetensors"));
        let views = &reference["views"];
        let losses = reference["loss"].to_vec1::<f32>().unwrap();
        for (image, &expected) in losses.iter().enumerate() {
            let traced = model.traced(&views.get(image).unwrap()).unwrap();
            let pooled = traced.pooled();
            let (count, width) = pooled.dims2().unwrap();
            let unit = pooled.broadcast_div(&pooled.sqr().unwrap().sum_keepdim(1).unwrap().sqrt().unwrap()).unwrap();
            let embeddings = reference["embeddings"].get(image).unwrap();
            assert!(difference(&unit, &embeddings) < 2e-5, "{}", case.name);
            let loss = loss(&pooled.flatten_all().unwrap().to_vec1::<f32>().unwrap(), width, 2);
            assert!((loss.value / f64::from(expected) - 1.0).abs() < 1e-5, "{}", case.name);
            if image > 0 {
                continue;
            }
            let gradient = loss.gradient.iter().map(|&value| value as f32).collect();
            let gradient = Tensor::from_vec(gradient, (count, width), &CPU).unwrap();
            let visit = |index: usize, block: BlockGradient| {
                let names: &[&str] = if block.neurons.len() == 1 { &["fc1"] } else { &["gate", "up"] };
                let layers = block.neurons.iter().zip(names).chain([(&block.value, &"value")]);
                for (layer, name) in layers {
                    let name = format!("grad_{name}.{index}.image0");
                    let found = layer.outputs.t()?.contiguous()?.matmul(&layer.inputs)?;
                    let difference = difference(&found, &reference[&name]);
                    assert!(difference <= 1e-4, "{} {name}: {difference:e}", case.name);
                }
                Ok(())
            };
            traced.backward(&gradient, visit).unwrap();
        }
    }
}

/// The loss of an image with the teachers of `teachers`, so that no gradient passes through them.
fn student_loss(students: &Tensor, teachers: &Tensor, global: usize) -> f64 {
    let unit = |z: &Tensor| z.broadcast_div(&z.sqr().unwrap().sum_keepdim(1).unwrap().sqrt().unwrap()).unwrap();
    let powers = |z: &Tensor| unit(z).exp().unwrap();
    let probabilities = |z: &Tensor| powers(z).broadcast_div(&powers(z).sum_keepdim(1).unwrap()).unwrap();
    let teachers = probabilities(teachers).to_vec2::<f64>().unwrap();
    let students = probabilities(students).log().unwrap().to_vec2::<f64>().unwrap();
    let term = |t: usize, s: usize| teachers[t].iter().zip(&students[s]).map(|(p, log_q)| -p * log_q).sum::<f64>();
    (0..global)
        .flat_map(|t| (0..students.len()).filter(move |&s| s != t).map(move |s| (t, s)))
        .map(|(t, s)| term(t, s))
        .sum()
}

/// The mean over images of squared slopes, or the square of the mean slope, of every weight of a
/// tensor, by moving one weight at a time.
fn brute_force(
    description: &Description,
    weights: &Weights,
    name: &str,
    images: &[Tensor],
    form: FisherForm,
) -> Vec<f64> {
    let embed =
        |weights: &Weights, image: &Tensor| model(description, weights, DType::F64).forward(image).unwrap().pooled;
    let teachers: Vec<Tensor> = images.iter().map(|image| embed(weights, image)).collect();
    let step = 1.0 / 1024.0;
    let moved = |index: usize, by: f32| {
        let mut weights = weights.clone();
        let mut tensor = weights.get(name).unwrap().clone();
        tensor.data[index] += by;
        let at = f64::from(tensor.data[index]);
        weights.insert(name, tensor);
        (weights, at)
    };
    let of_weight = |index: usize| {
        let ((above, high), (below, low)) = (moved(index, step), moved(index, -step));
        let slopes = images.iter().zip(&teachers).map(|(image, teacher)| {
            let loss = |weights: &Weights| student_loss(&embed(weights, image), teacher, 2);
            (loss(&above) - loss(&below)) / (high - low)
        });
        let count = images.len() as f64;
        match form {
            FisherForm::PerImage => slopes.map(|slope| slope * slope).sum::<f64>() / count,
            FisherForm::Accumulated => (slopes.sum::<f64>() / count).powi(2),
            FisherForm::Saliency => {
                (slopes.sum::<f64>() / count * f64::from(weights.get(name).unwrap().data[index])).abs()
            }
        }
    };
    (0..weights.get(name).unwrap().data.len()).map(of_weight).collect()
}

#[test]
fn importance_is_what_brute_force_finds() {
    use FisherForm::{Accumulated, PerImage, Saliency};
    for (gated, form) in [(false, PerImage), (true, PerImage), (true, Accumulated), (false, Saliency), (true, Saliency)]
    {
        let (description, weights) = tiny(5, gated);
        let views = Tensor::from_vec(pixels(6, 2 * 3 * 48), (2, 3, 3, 4, 4), &CPU).unwrap();
        let found = run(&model(&description, &weights, DType::F32), &images(&views, 2), form, 1).unwrap();
        let separate: Vec<Tensor> = (0..2).map(|image| views.get(image).unwrap()).collect();
        let mean_by = |values: &[f64], count: usize| -> Vec<f64> {
            values.chunks_exact(count).map(|chunk| chunk.iter().sum::<f64>() / count as f64).collect()
        };
        for (index, block) in description.blocks.iter().enumerate() {
            let squares = |name: &str| brute_force(&description, &weights, name, &separate, form);
            let (width, head_dim) = (description.embed_dim, description.head_dim);
            let heads = mean_by(&squares(&block.value.weight.name), width * head_dim);
            let neurons = match &block.mlp {
                Mlp::Plain { up, .. } => mean_by(&squares(&up.weight.name), width),
                Mlp::Gated { gate, up, .. } => {
                    let (gate, up) = (squares(&gate.weight.name), squares(&up.weight.name));
                    let mean: Vec<f64> = gate.iter().zip(&up).map(|(gate, up)| (gate + up) / 2.0).collect();
                    mean_by(&mean, width)
                }
            };
            assert!(difference_of(&found.heads[index], &heads) < 1e-3, "{:?} {heads:?}", found.heads[index]);
            assert!(difference_of(&found.neurons[index], &neurons) < 1e-3, "{:?} {neurons:?}", found.neurons[index]);
        }
    }
}

fn tiny_images(count: usize) -> Vec<Views> {
    (0..count).map(|image| Views { pixels: pixels(image as u64, 3 * 48), views: 3, global: 2 }).collect()
}

#[test]
fn the_number_of_workers_changes_no_bit() {
    let (description, weights) = tiny(7, false);
    let model = model(&description, &weights, DType::F32);
    let images = tiny_images(37);
    for form in [FisherForm::PerImage, FisherForm::Accumulated, FisherForm::Saliency] {
        let alone = run(&model, &images, form, 1).unwrap();
        for workers in [2, 3, 8] {
            assert_eq!(run(&model, &images, form, workers).unwrap(), alone);
        }
    }
}

#[test]
fn progress_counts_every_image_once() {
    let (description, weights) = tiny(7, false);
    let seen = Mutex::new(Vec::new());
    let options = Options { form: FisherForm::PerImage, workers: NonZeroUsize::new(3).unwrap(), interrupt: &NEVER };
    let images = tiny_images(11).into_iter().map(Ok::<_, Infallible>);
    let record = |done| seen.lock().unwrap().push(done);
    estimate(&[model(&description, &weights, DType::F32)], images, options, &record).unwrap();
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (1..=11).collect::<Vec<_>>());
}

#[test]
fn an_interrupt_stops_between_images() {
    let (description, weights) = tiny(7, false);
    let interrupt = AtomicBool::new(false);
    let options = Options { form: FisherForm::PerImage, workers: NonZeroUsize::new(2).unwrap(), interrupt: &interrupt };
    let endless = (0..).map(|image| Ok::<_, Infallible>(tiny_images(1 + image % 2).remove(0)));
    let stop = |done| interrupt.store(done >= 10, Ordering::Relaxed);
    let error = estimate(&[model(&description, &weights, DType::F32)], endless, options, &stop).unwrap_err();
    assert!(matches!(error, ImportanceError::Interrupted { .. }), "{error}");
}

#[test]
fn bad_images_are_refused_by_number() {
    let (description, weights) = tiny(7, false);
    let model = model(&description, &weights, DType::F32);
    let error = |change: fn(&mut Views)| {
        let mut images = tiny_images(6);
        change(&mut images[5]);
        run(&model, &images, FisherForm::PerImage, 2).unwrap_err().to_string()
    };
    assert_eq!(
        error(|image| image.global = 0),
        "image 5: 0 global of 3 views; at least one global view and one other are needed"
    );
    assert_eq!(error(|image| image.pixels.truncate(100)), "image 5: 100 values in 3 views, expected 144");
    assert_eq!(
        error(|image| image.pixels[7] = f32::NAN),
        "near image 5: the loss or a gradient is not a finite number"
    );
    assert!(matches!(run(&model, &[], FisherForm::PerImage, 2), Err(ImportanceError::NoImages)));

    let failing = [Err("the disk is gone")].into_iter();
    let options = Options { form: FisherForm::PerImage, workers: NonZeroUsize::MIN, interrupt: &NEVER };
    let error = estimate(&[model], failing, options, &|_| {}).unwrap_err();
    assert!(matches!(error, ImportanceError::Source { image: 0, .. }), "{error}");
}

/// The rank correlation (Spearman) of two scores without equal values.
fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    let ranks = |values: &[f64]| {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
        let mut ranks = vec![0.0; values.len()];
        order.into_iter().enumerate().for_each(|(rank, index)| ranks[index] = rank as f64);
        ranks
    };
    let count = a.len() as f64;
    let squares: f64 = ranks(a).iter().zip(ranks(b)).map(|(a, b)| (a - b).powi(2)).sum();
    1.0 - 6.0 * squares / (count * (count * count - 1.0))
}

#[test]
fn devices_and_their_types_of_numbers_rank_alike() {
    let (description, weights) = tiny(7, true);
    let images = tiny_images(11);
    let on = |dtype, devices: usize, form| {
        let models: Vec<CandleVit> = (0..devices).map(|_| model(&description, &weights, dtype)).collect();
        let options = Options { form, workers: NonZeroUsize::new(devices).unwrap(), interrupt: &NEVER };
        estimate(&models, images.iter().cloned().map(Ok::<_, Infallible>), options, &|_| {}).unwrap()
    };
    let all = |importance: &Importance| -> Vec<f64> {
        importance.neurons.iter().chain(&importance.heads).flatten().copied().collect()
    };
    for form in [FisherForm::PerImage, FisherForm::Accumulated, FisherForm::Saliency] {
        let fused = all(&on(DType::F32, 1, form));
        // Every other type takes the way of a GPU.
        let composite = on(DType::F64, 1, form);
        assert_eq!(on(DType::F64, 3, form), composite, "{form:?}");
        assert!(difference_of(&all(&composite), &fused) < 1e-4, "{form:?}");
        for dtype in [DType::BF16, DType::F16] {
            let correlation = rank_correlation(&all(&on(dtype, 1, form)), &fused);
            println!("{form:?} {dtype:?}: rank correlation {correlation:.4}");
            assert!(correlation > 0.95, "{form:?} {dtype:?}: {correlation}");
        }
    }
}
