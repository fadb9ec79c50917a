//! The executor against the golden references, and its backward pass against slopes.

use candle_core::{DType, Device, Tensor};
use headroom_device::model::description::{Mlp, TensorRef};
use headroom_device::model::weights::Tensor as WeightTensor;
use headroom_device::model::{Description, Weights};
use headroom_shared::KeptStructures;
use serde_json::Value;

use super::testing::{Case, cases_with, difference, open, pixels, tensors, tiny};
use super::{CandleVit, ExecutorError};

const CPU: Device = Device::Cpu;

/// Compares every output that the reference file has; f32 runs fused, f64 composite.
fn assert_outputs(case: &Case, file: &str, dtype: DType, image_size: Option<(usize, usize)>, tolerance: f64) {
    let (description, weights) = open(&case.folder, image_size).unwrap();
    let model = CandleVit::load(&description, &weights, &CPU, dtype).unwrap();
    let reference = tensors(&case.folder.join(file));
    let pixels = reference
        .get("pixel_values")
        .cloned()
        .unwrap_or_else(|| tensors(&case.folder.join("io.safetensors"))["pixel_values"].clone());
    let found = model.forward_with_hidden_states(&pixels).unwrap();
    let mut outputs = vec![("last_hidden_state".to_owned(), &found.tokens), ("pooled".to_owned(), &found.pooled)];
    let logits = if reference.contains_key("image_embeds") { "image_embeds" } else { "logits" };
    outputs.extend(found.logits.iter().map(|found| (logits.to_owned(), found)));
    outputs.extend(found.hidden_states.iter().enumerate().map(|(i, found)| (format!("hidden_states.{i}"), found)));
    let mut compared = 0;
    for (name, found) in outputs {
        let Some(expected) = reference.get(&name) else { continue };
        let difference = difference(found, expected);
        assert!(difference <= tolerance, "{} {file} {dtype:?} {name}: {difference:e}", case.name);
        compared += 1;
    }
    assert!(compared >= 2, "{} {file}: only {compared} outputs compared", case.name);
}

#[test]
fn outputs_equal_the_references_of_every_case() {
    for case in cases_with("io.safetensors") {
        assert_outputs(&case, "io.safetensors", DType::F32, None, 2e-5);
        // The references round rotary tables to f32, hence not 1e-9.
        assert_outputs(&case, "io_f64.safetensors", DType::F64, None, 1e-5);
    }
}

#[test]
fn outputs_at_another_size_equal_the_references() {
    for case in cases_with("io_size2.safetensors") {
        let pixels = tensors(&case.folder.join("io_size2.safetensors"))["pixel_values"].clone();
        let &[_, _, height, width] = pixels.dims() else { panic!("pixels of {}", case.name) };
        assert_outputs(&case, "io_size2.safetensors", DType::F32, Some((height, width)), 1e-4);
    }
}

/// Heads and neurons by block.
struct Kept(Vec<(Vec<usize>, usize)>);

impl KeptStructures for Kept {
    fn heads(&self, block: usize) -> usize {
        self.0[block].0.len()
    }

    fn head(&self, block: usize, index: usize) -> usize {
        self.0[block].0[index]
    }

    fn neurons(&self, block: usize) -> usize {
        self.0[block].1
    }
}

/// Puts `order` of the leading dimension first among the rows of a reference.
fn permute_rows(weights: &mut Weights, reference: &TensorRef, order: &[usize]) {
    let mut tensor = weights.get(&reference.name).unwrap().clone();
    let width = tensor.data.len() / tensor.shape[0];
    let first = reference.rows.map_or(0, |(first, _)| first);
    let rows = weights.values(reference).unwrap().to_vec();
    for (to, &from) in order.iter().enumerate() {
        tensor.data[(first + to) * width..][..width].copy_from_slice(&rows[from * width..][..width]);
    }
    weights.insert(reference.name.clone(), tensor);
}

fn permute_columns(weights: &mut Weights, reference: &TensorRef, order: &[usize]) {
    let tensor = weights.get(&reference.name).unwrap();
    let data = tensor.data.chunks_exact(order.len()).flat_map(|row| order.iter().map(|&from| row[from])).collect();
    let shape = tensor.shape.clone();
    weights.insert(reference.name.clone(), WeightTensor { shape, data });
}

#[test]
fn sub_networks_equal_physically_pruned_models() {
    for case in cases_with("pruned.json") {
        let (description, mut weights) = open(&case.folder, None).unwrap();
        let json: Value = serde_json::from_slice(&std::fs::read(case.folder.join("pruned.json")).unwrap()).unwrap();
        let indices = |value: &Value| -> Vec<usize> {
            value.as_array().unwrap().iter().map(|index| index.as_u64().unwrap() as usize).collect()
        };
        let mut kept = Vec::new();
        for (block, json) in description.blocks.iter().zip(json["blocks"].as_array().unwrap()) {
            let mut order = indices(&json["kept_neurons"]);
            kept.push((indices(&json["kept_heads"]), order.len()));
            let rest: Vec<usize> = (0..description.neurons).filter(|neuron| !order.contains(neuron)).collect();
            order.extend(rest);
            let (into, down) = match &block.mlp {
                Mlp::Plain { up, down } => (vec![up], down),
                Mlp::Gated { gate, up, down } => (vec![gate, up], down),
            };
            for linear in into {
                permute_rows(&mut weights, &linear.weight, &order);
                if let Some(bias) = &linear.bias {
                    permute_rows(&mut weights, bias, &order);
                }
            }
            permute_columns(&mut weights, &down.weight, &order);
        }
        let kept = Kept(kept);
        let reference = tensors(&case.folder.join("pruned_io.safetensors"));
        let pixels = &tensors(&case.folder.join("io.safetensors"))["pixel_values"];
        for dtype in [DType::F32, DType::F64] {
            let model = CandleVit::load(&description, &weights, &CPU, dtype).unwrap();
            let found = model.forward_kept(pixels, &kept).unwrap();
            for (name, found) in [("last_hidden_state", &found.tokens), ("pooled", &found.pooled)] {
                let difference = difference(found, &reference[name]);
                assert!(difference <= 2e-5, "{} {dtype:?} {name}: {difference:e}", case.name);
            }
        }
    }
}

#[test]
fn blocks_may_keep_nothing_but_their_biases() {
    let (description, mut weights) = tiny(1, false);
    let nothing = Kept(vec![(vec![], 0), (vec![], 0)]);
    let pixels = Tensor::from_vec(pixels(2, 2 * 48), (2, 3, 4, 4), &CPU).unwrap();
    let run = |weights: &Weights, kept: Option<&Kept>| {
        let model = CandleVit::load(&description, weights, &CPU, DType::F32).unwrap();
        let found = kept.map_or_else(|| model.forward(&pixels), |kept| model.forward_kept(&pixels, kept));
        found.unwrap().tokens
    };
    let found = run(&weights, Some(&nothing));
    // The same function: all weights of the branches' last layers zero.
    for block in &description.blocks {
        let Mlp::Plain { down, .. } = &block.mlp else { panic!("tiny is plain") };
        for reference in [&block.projection.weight, &down.weight] {
            let mut tensor = weights.get(&reference.name).unwrap().clone();
            tensor.data.fill(0.0);
            weights.insert(reference.name.clone(), tensor);
        }
    }
    assert!(difference(&found, &run(&weights, None)) < 1e-6);
}

#[test]
fn impossible_requests_are_refused() {
    let (description, weights) = tiny(1, false);
    let model = CandleVit::load(&description, &weights, &CPU, DType::F32).unwrap();
    let wrong = Tensor::zeros((2, 3, 4, 5), DType::F32, &CPU).unwrap();
    assert_eq!(
        model.forward(&wrong).unwrap_err().to_string(),
        "the model takes pixels [batch, 3, 4, 4], found [2, 3, 4, 5]"
    );
    let right = Tensor::zeros((1, 3, 4, 4), DType::F32, &CPU).unwrap();
    for (heads, neurons) in [(vec![0, 2], 6), (vec![0, 0], 6), (vec![1, 0], 6), (vec![0], 7)] {
        let error = model.forward_kept(&right, &Kept(vec![(vec![0], 1), (heads, neurons)])).unwrap_err();
        assert!(matches!(error, ExecutorError::Kept { block: 1, .. }), "{error}");
    }
    let mut short = weights.clone();
    short.insert("1.up.bias", WeightTensor { shape: vec![5], data: vec![0.0; 5] });
    assert_eq!(
        CandleVit::load(&description, &short, &CPU, DType::F32).unwrap_err().to_string(),
        "tensor `1.up.bias` has 5 values, expected 6"
    );
    assert_eq!(
        CandleVit::load(&description, &Weights::default(), &CPU, DType::F32).unwrap_err().to_string(),
        "tensor `class` is missing"
    );
}

/// The weight gradients of every layer of [`BlockGradient`](super::BlockGradient), value first, by
/// block, of the inner product of the embeddings with `direction`.
fn weight_gradients(model: &CandleVit, pixels: &Tensor, direction: &Tensor) -> Vec<Vec<Tensor>> {
    let traced = model.traced(pixels).unwrap();
    let direction = direction.to_dtype(traced.pooled().dtype()).unwrap();
    let mut found = vec![Vec::new(); model.depth()];
    let visit = |index: usize, block: super::BlockGradient| {
        for layer in std::iter::once(block.value).chain(block.neurons) {
            found[index].push(layer.outputs.t()?.contiguous()?.matmul(&layer.inputs)?);
        }
        Ok(())
    };
    traced.backward(&direction, visit).unwrap();
    found
}

/// The references of the weights that [`weight_gradients`] covers, in the same order.
fn layers(description: &Description) -> Vec<Vec<&TensorRef>> {
    let mut layers = Vec::new();
    for block in &description.blocks {
        layers.push(match &block.mlp {
            Mlp::Plain { up, .. } => vec![&block.value.weight, &up.weight],
            Mlp::Gated { gate, up, .. } => vec![&block.value.weight, &gate.weight, &up.weight],
        });
    }
    layers
}

fn assert_gradients(name: &str, description: &Description, weights: &Weights, pixels: &Tensor) {
    let exact = CandleVit::load(description, weights, &CPU, DType::F64).unwrap();
    let pooled = exact.forward(pixels).unwrap().pooled;
    let direction: Vec<f64> = (0..pooled.elem_count()).map(|i| ((i * 29 + 7) % 17) as f64 / 17.0 - 0.5).collect();
    let direction = Tensor::from_vec(direction, pooled.shape(), &CPU).unwrap();
    let composite = weight_gradients(&exact, pixels, &direction);

    let fused = CandleVit::load(description, weights, &CPU, DType::F32).unwrap();
    let fused = weight_gradients(&fused, pixels, &direction);
    for (block, (fused, composite)) in fused.iter().zip(&composite).enumerate() {
        assert_eq!(fused.len(), composite.len());
        for (layer, (fused, composite)) in fused.iter().zip(composite).enumerate() {
            let difference = difference(fused, composite);
            assert!(difference < 1e-4, "{name}: fused gradient of block {block} layer {layer}: {difference:e}");
        }
    }

    let value_along = |weights: &Weights| -> f64 {
        let model = CandleVit::load(description, weights, &CPU, DType::F64).unwrap();
        let pooled = model.forward(pixels).unwrap().pooled;
        (pooled * &direction).unwrap().sum_all().unwrap().to_scalar().unwrap()
    };
    for (references, gradients) in layers(description).into_iter().zip(&composite) {
        for (reference, gradient) in references.into_iter().zip(gradients) {
            let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let steepest =
                (0..gradient.len()).max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs())).unwrap();
            for index in [steepest, gradient.len() / 3] {
                let moved = |by: f32| {
                    let mut weights = weights.clone();
                    let mut tensor = weights.get(&reference.name).unwrap().clone();
                    let width = tensor.data.len() / tensor.shape[0];
                    let at = &mut tensor.data[reference.rows.map_or(0, |(first, _)| first * width) + index];
                    *at += by;
                    let exact = f64::from(*at);
                    weights.insert(reference.name.clone(), tensor);
                    (exact, value_along(&weights))
                };
                let ((high, above), (low, below)) = (moved(1e-3), moved(-1e-3));
                let slope = (above - below) / (high - low);
                let apart = (slope - gradient[index]).abs() / gradient[steepest].abs();
                assert!(
                    apart < 1e-4,
                    "{name} {}[{index}]: slope {slope}, gradient {}",
                    reference.name,
                    gradient[index]
                );
            }
        }
    }
}

#[test]
fn gradients_are_the_slopes_of_tiny_models() {
    for (seed, gated) in [(1, false), (2, true)] {
        let (description, weights) = tiny(seed, gated);
        let pixels = Tensor::from_vec(pixels(seed, 3 * 48), (3, 3, 4, 4), &CPU).unwrap();
        assert_gradients("tiny", &description, &weights, &pixels);
    }
}

#[test]
fn gradients_are_the_slopes_in_every_case() {
    for case in cases_with("io.safetensors") {
        let (description, weights) = open(&case.folder, None).unwrap();
        let pixels = &tensors(&case.folder.join("io.safetensors"))["pixel_values"];
        assert_gradients(&case.name, &description, &weights, pixels);
    }
}
