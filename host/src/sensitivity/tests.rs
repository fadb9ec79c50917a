//! Sensitivity against finite differences of the fidelity itself.

use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::DType;
use headroom_device::model::description::{Linear, Mlp};
use headroom_device::model::{Description, Weights};

use super::*;
use crate::executor::testing::{cases_with, open, pixels, tiny};

static NEVER: AtomicBool = AtomicBool::new(false);

fn load(description: &Description, weights: &Weights) -> CandleVit {
    CandleVit::load(description, weights, &Device::Cpu, DType::F32).unwrap()
}

fn run(model: &CandleVit, pixels: &[f32], probes: usize) -> Importance {
    estimate(
        std::slice::from_ref(model),
        pixels,
        Options { probes, seed: 1, images_together: None, interrupt: &NEVER },
        &|_| {},
    )
    .unwrap()
}

/// The weights with the mask of a structure at `mask`: its columns of the layer after it are scaled.
fn masked(weights: &Weights, layer: &Linear, columns: std::ops::Range<usize>, mask: f32) -> Weights {
    let mut weights = weights.clone();
    let mut tensor = weights.get(&layer.weight.name).unwrap().clone();
    let width = tensor.shape[1];
    tensor.data.iter_mut().enumerate().filter(|(at, _)| columns.contains(&(at % width))).for_each(|(_, w)| *w *= mask);
    weights.insert(layer.weight.name.clone(), tensor);
    weights
}

/// The weights with a row of a tensor scaled.
fn masked_row(weights: &Weights, name: &str, row: usize, mask: f32) -> Weights {
    let mut weights = weights.clone();
    let tensor = weights.get_mut(name).unwrap();
    let width: usize = tensor.shape[1..].iter().product();
    tensor.data[row * width..(row + 1) * width].iter_mut().for_each(|value| *value *= mask);
    weights
}

fn bias(linear: &Linear) -> String {
    linear.bias.as_ref().unwrap().name.clone()
}

fn by_differences(
    description: &Description,
    weights: &Weights,
    pixels: &[f32],
    layer: &Linear,
    columns: std::ops::Range<usize>,
) -> f64 {
    by_differences_of(description, weights, pixels, |weights, mask| masked(weights, layer, columns.clone(), mask))
}

/// The mean over images of `|P (z(1 + h) - z(1 - h))|^2 / (2 h |z|)^2 / 2`.
fn by_differences_of(
    description: &Description,
    weights: &Weights,
    pixels: &[f32],
    masked: impl Fn(&Weights, f32) -> Weights,
) -> f64 {
    let step = 1.0 / 128.0;
    let embed = |weights: &Weights| {
        let model = load(description, weights);
        let [channels, height, width] = model.image_shape();
        let images = pixels.len() / (channels * height * width);
        let pixels = Tensor::from_slice(pixels, (images, channels, height, width), &Device::Cpu).unwrap();
        model.forward(&pixels).unwrap().pooled.to_vec2::<f32>().unwrap()
    };
    let dense = embed(weights);
    let more = embed(&masked(weights, 1.0 + step));
    let less = embed(&masked(weights, 1.0 - step));
    let of_image = |((z, more), less): ((&Vec<f32>, &Vec<f32>), &Vec<f32>)| {
        let square = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
        let z: Vec<f64> = z.iter().map(|&z| f64::from(z)).collect();
        let slope: Vec<f64> = more.iter().zip(less).map(|(a, b)| f64::from(a - b) / (2.0 * f64::from(step))).collect();
        let along = z.iter().zip(&slope).map(|(z, s)| z * s).sum::<f64>() / square(&z);
        let across: Vec<f64> = z.iter().zip(&slope).map(|(z, s)| s - z * along).collect();
        square(&across) / square(&z) / 2.0
    };
    let images = dense.len() as f64;
    dense.iter().zip(&more).zip(&less).map(of_image).sum::<f64>() / images
}

#[test]
fn it_is_the_curvature_of_the_fidelity() {
    for gated in [false, true] {
        let (description, weights) = tiny(3, gated);
        let pixels = pixels(5, 2 * 3 * 16);
        // Many probes, so that their noise is small: the relative deviation is about sqrt(2 / (width * probes)).
        let found = run(&load(&description, &weights), &pixels, 4000);
        let close = |found: f64, expected: f64, what: &str| {
            assert!((found - expected).abs() < 0.08 * expected + 1e-7, "{what}: {found:e}, expected {expected:e}");
        };
        for (index, block) in description.blocks.iter().enumerate() {
            for head in 0..description.heads {
                let columns = head * description.head_dim..(head + 1) * description.head_dim;
                let expected = by_differences(&description, &weights, &pixels, &block.projection, columns);
                close(found.heads[index][head], expected, "head");
                let dims = head * description.head_dim..(head + 1) * description.head_dim;
                for dim in dims {
                    let expected = by_differences(&description, &weights, &pixels, &block.projection, dim..dim + 1);
                    close(found.value_dims[index][dim], expected, "value dimension");
                }
            }
            // A query dimension is its row and its bias.
            for dim in 0..description.heads * description.head_dim {
                let expected = by_differences_of(&description, &weights, &pixels, |weights, mask| {
                    masked_row(
                        &masked_row(weights, &block.query.weight.name, dim, mask),
                        &bias(&block.query),
                        dim,
                        mask,
                    )
                });
                close(found.query_dims[index][dim], expected, "query dimension");
            }
            let (Mlp::Plain { down, .. } | Mlp::Gated { down, .. }) = &block.mlp;
            for neuron in 0..description.neurons {
                let expected = by_differences(&description, &weights, &pixels, down, neuron..neuron + 1);
                close(found.neurons[index][neuron], expected, "neuron");
            }
        }
    }
}

#[test]
fn neither_threads_nor_batches_change_it() {
    let (description, weights) = tiny(3, false);
    let model = load(&description, &weights);
    let pixels = pixels(5, 230 * 3 * 16);
    let all = run(&model, &pixels, 2);
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| run(&model, &pixels, 2));
    assert_eq!(all, alone);
}

#[test]
fn every_fixture_has_a_sensitivity() {
    for case in cases_with("io.safetensors") {
        let (description, weights) = open(&case.folder, None).unwrap();
        let image = &description.image;
        let pixels = pixels(1, 2 * image.channels * image.height * image.width);
        let found = run(&load(&description, &weights), &pixels, 1);
        assert_eq!((found.heads.len(), found.neurons.len()), (description.blocks.len(), description.blocks.len()));
        for scores in found.heads.iter().chain(&found.neurons) {
            assert!(scores.iter().all(|score| *score > 0.0), "{}", case.name);
        }
    }
}

#[test]
fn what_cannot_be_estimated_is_refused() {
    let (description, weights) = tiny(3, false);
    let model = load(&description, &weights);
    let run = |pixels: &[f32], probes: usize, interrupt: &AtomicBool| {
        estimate(
            std::slice::from_ref(&model),
            pixels,
            Options { probes, seed: 1, images_together: None, interrupt },
            &|_| {},
        )
        .unwrap_err()
        .to_string()
    };
    assert_eq!(run(&pixels(5, 48), 0, &NEVER), "sensitivity needs at least one probe");
    assert_eq!(run(&pixels(5, 47), 1, &NEVER), "47 pixel values are no whole images of 48");
    assert_eq!(run(&[], 1, &NEVER), "0 pixel values are no whole images of 48");
    assert_eq!(run(&[f32::NAN; 48], 1, &NEVER), "near image 0: the embedding or a slope is not a finite number");
    let interrupted = AtomicBool::new(false);
    interrupted.store(true, Ordering::Relaxed);
    assert_eq!(run(&pixels(5, 48), 1, &interrupted), "interrupted after 0 images");
}

#[test]
fn devices_and_their_types_of_numbers_rank_alike() {
    use crate::checkpoint::{Checkpoint, OpenOptions};
    use crate::demo;

    let checkpoint = Checkpoint::from_bytes(demo::WEIGHTS, Some(demo::CONFIG), &OpenOptions::default()).unwrap();
    let (description, weights) = (&checkpoint.description, checkpoint.weights().unwrap());
    let image = &description.image;
    let pixels = pixels(3, 5 * image.channels * image.height * image.width);
    let on = |dtype, devices: usize| {
        let model = |_| CandleVit::load(description, &weights, &Device::Cpu, dtype).unwrap();
        let models: Vec<CandleVit> = (0..devices).map(model).collect();
        let options = Options { probes: 2, seed: 1, images_together: Some(2), interrupt: &NEVER };
        estimate(&models, &pixels, options, &|_| {}).unwrap()
    };
    let all = |importance: &Importance| -> Vec<f64> {
        let Importance { heads, neurons, value_dims, query_dims } = importance;
        heads.iter().chain(neurons).chain(value_dims).chain(query_dims).flatten().copied().collect()
    };
    let fused = all(&on(DType::F32, 1));
    // Every other type takes the way of a GPU.
    let composite = on(DType::F64, 1);
    assert_eq!(on(DType::F64, 2), composite);
    let composite = all(&composite);
    let largest = fused.iter().copied().fold(0.0, f64::max);
    assert!(fused.iter().zip(&composite).all(|(a, b)| (a - b).abs() < 1e-4 * largest));
    let least = |count: usize, scores: &[f64]| -> Vec<usize> {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        order.truncate(count);
        order
    };
    // What a ladder is made of: which half goes first.
    let half = fused.len() / 2;
    let expected = least(half, &fused);
    for dtype in [DType::BF16, DType::F16] {
        let found = least(half, &all(&on(dtype, 1)));
        let same = found.iter().filter(|index| expected.contains(index)).count() as f64 / half as f64;
        println!("{dtype:?}: {same:.4} of the less important half are the same");
        assert!(same > 0.95, "{dtype:?}: {same}");
    }
}
