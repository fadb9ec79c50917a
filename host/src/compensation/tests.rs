//! Compensation against plain least squares, and against what its closed form promises.

use candle_core::DType;
use headroom_device::engine::{Corrected, ElasticVit};
use headroom_device::model::description::{Linear, Mlp, Position, TensorRef};
use headroom_device::model::{Description, Weights};
use headroom_shared::{ModelShape, Step, StepKind};
use proptest::prelude::*;

use super::*;
use crate::executor::KeptInputs;
use crate::executor::testing::{cases_with, open, pixels, tiny};

static NEVER: AtomicBool = AtomicBool::new(false);

const ALL: [Mode; 4] = [Mode::Mean, Mode::Shared, Mode::Sequential, Mode::PerRung];

fn shape(description: &Description) -> ModelShape {
    let [blocks, heads] = [description.blocks.len(), description.heads].map(|count| count.try_into().unwrap());
    ModelShape {
        head_dim: description.head_dim.try_into().unwrap(),
        embed_dim: description.embed_dim.try_into().unwrap(),
        tokens: description.tokens().try_into().unwrap(),
        ..crate::ranking::quanta::tests::shape(blocks, heads, description.neurons.try_into().unwrap())
    }
}

/// Dense, two thirds and one third of everything, at least one head, and a third of the heads' values too.
fn rungs(description: &Description) -> Vec<SubNetwork> {
    let shape = shape(description);
    let part = |thirds: usize| {
        let counts = ((description.heads * thirds / 3).max(1), description.neurons * thirds / 3);
        SubNetwork::from_counts(&shape, &vec![counts; description.blocks.len()]).unwrap()
    };
    let mut fewest = part(1);
    for block in 0..description.blocks.len() {
        let step = |kind| Step::new(block, kind).unwrap();
        while fewest.value_dims(block) > description.head_dim / 3
            && fewest.remove(&shape, step(StepKind::ValueDims)).is_ok()
        {}
        if !matches!(description.embedding.position, Position::Rotary { .. }) {
            // One group, where there is more than one.
            let _ = fewest.remove(&shape, step(StepKind::QueryDims));
        }
    }
    vec![part(3), part(2), fewest]
}

/// All but the dense one corrected, and fitted on.
fn both(sub_networks: &[SubNetwork]) -> Rungs<'_> {
    Rungs { sub_networks, corrected: &[1, 2], chosen: &[1, 2] }
}

fn model(description: &Description, weights: &Weights) -> CandleVit {
    CandleVit::load(description, weights, &Device::Cpu, DType::F32).unwrap()
}

fn fitted(description: &Description, weights: &Weights, pixels: &[f32], mode: Mode) -> Corrections {
    let options = Options { mode, feedback: 1.0, damping: Damping::Mean, interrupt: &NEVER };
    fit(&model(description, weights), both(&rungs(description)), pixels, options, &|_| {}).unwrap()
}

/// The tokens that leave the last block, `[tokens of all images, embed_dim]`.
fn last_tokens(vit: &ElasticVit, pixels: &[f32], kept: &Corrected<'_, SubNetwork>) -> Vec<f32> {
    let batch = pixels.len() / vit.pixels();
    let mut tokens = Vec::new();
    let last = |block: usize, states: &[f32]| {
        if block == vit.depth() {
            tokens.extend_from_slice(states);
        }
    };
    vit.forward_observed(&mut vit.workspace(batch), pixels, batch, kept, last).unwrap();
    tokens
}

fn column_sums(rows: &[f32], width: usize) -> Vec<f64> {
    let mut sums = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    sums
}

/// Two small ones, and one of every family where the golden cases are there.
fn models() -> Vec<(String, (Description, Weights))> {
    let golden = cases_with("io.safetensors");
    let golden = golden.iter().map(|case| (case.name.clone(), open(&case.folder, None).unwrap()));
    let invented = [("tiny".to_owned(), tiny(3, false)), ("tiny gated".to_owned(), tiny(3, true))];
    invented.into_iter().chain(golden).collect()
}

#[test]
fn no_compensation_is_none_at_all() {
    let (description, weights) = tiny(3, false);
    assert_eq!(fitted(&description, &weights, &pixels(5, 48), Mode::None), Corrections::default());
}

/// What a GPU would do runs on the CPU as well.
#[test]
fn tensor_operations_fit_what_the_host_does() {
    for (name, (description, weights)) in models() {
        let (model, image) = (model(&description, &weights), &description.image);
        let pixels = pixels(5, 2 * 3 * image.height * image.width);
        let mut sub_networks = rungs(&description);
        let nothing = vec![(0, 0); description.blocks.len()];
        sub_networks.push(SubNetwork::from_counts(&shape(&description), &nothing).unwrap());
        let rungs = Rungs { sub_networks: &sub_networks, corrected: &[1, 2, 3], chosen: &[1, 3] };
        for (mode, feedback) in ALL.into_iter().map(|mode| (mode, 1.0)).chain([(Mode::Sequential, 0.5)]) {
            let options = Options { mode, feedback, damping: Damping::Mean, interrupt: &NEVER };
            let fitted = |on_host| fit_where(on_host, &model, rungs, &pixels, options, &|_| {}).unwrap();
            let tokens = |corrections: &Corrections| -> Vec<Vec<f32>> {
                let vit = ElasticVit::new(&description, &weights).unwrap().with_corrections(corrections).unwrap();
                let numbers: Vec<usize> = corrections.places().map(|(rung, ..)| rung).collect();
                let corrected = numbers.iter().enumerate().map(|(number, &rung)| {
                    last_tokens(&vit, &pixels, &Corrected { kept: &sub_networks[rung], correction: Some(number) })
                });
                corrected.collect()
            };
            // Two images tell a hundred inputs little: what rounding moves a matrix by is compared by what it amounts to.
            let (host, device) = (tokens(&fitted(true)), tokens(&fitted(false)));
            assert_eq!(host.len(), 3, "{name}, {mode:?}");
            for (rung, (host, device)) in host.iter().zip(&device).enumerate() {
                let largest = host.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                for (found, expected) in device.iter().zip(host) {
                    let apart = (found - expected).abs() / largest;
                    assert!(apart < 1e-2, "{name}, {mode:?}, {rung}: {found} instead of {expected}");
                }
            }
        }
    }
}

#[test]
fn what_is_not_finite_has_no_solution_anywhere() {
    let (description, weights) = tiny(3, false);
    let mut pixels = pixels(5, 6 * 48);
    pixels[50] = f32::NAN;
    for on_host in [true, false] {
        let options = Options { mode: Mode::Sequential, feedback: 1.0, damping: Damping::Mean, interrupt: &NEVER };
        let model = model(&description, &weights);
        let found = fit_where(on_host, &model, both(&rungs(&description)), &pixels, options, &|_| {});
        assert!(matches!(found, Err(CompensationError::Singular { .. })), "{on_host}: {found:?}");
    }
}

#[test]
fn of_nothing_there_is_nothing() {
    let matrix = Tensor::zeros((6, 4), DType::F32, &Device::Cpu).unwrap();
    for nothing in [KeptInputs::First(0), KeptInputs::These(vec![])] {
        assert_eq!(nothing.select(&matrix, 0).unwrap().dims(), [0, 4]);
    }
}

/// `b_r = E t_r - W E a_r` carries the mean token through every layer, whatever the matrix is.
#[test]
fn every_rung_of_every_family_keeps_the_mean_token() {
    for (name, (description, weights)) in models() {
        let image = &description.image;
        let pixels = pixels(1, 3 * image.channels * image.height * image.width);
        for mode in ALL {
            let corrections = fitted(&description, &weights, &pixels, mode);
            let numbers: Vec<usize> = corrections.places().map(|(rung, ..)| rung).collect();
            let vit = ElasticVit::new(&description, &weights).unwrap().with_corrections(&corrections).unwrap();
            let rungs = rungs(&description);
            let dense = last_tokens(&vit, &pixels, &Corrected { kept: &rungs[0], correction: None });
            let expected = column_sums(&dense, description.embed_dim);
            let largest = column_sums(&dense.iter().map(|value| value.abs()).collect::<Vec<_>>(), 1)[0];
            let largest = largest / description.embed_dim as f64;
            for (rung, kept) in rungs.iter().enumerate().skip(1) {
                let correction = numbers.iter().position(|&number| number == rung);
                assert!(correction.is_some(), "{name}, {mode:?}: rung {rung} has no correction");
                let own = last_tokens(&vit, &pixels, &Corrected { kept, correction });
                let found = column_sums(&own, description.embed_dim);
                for (found, expected) in found.iter().zip(&expected) {
                    let apart = (found - expected).abs() / largest;
                    assert!(apart < 1e-4, "{name}, {mode:?}, rung {rung}: {found} instead of {expected}");
                }
            }
        }
    }
}

/// The weights with the corrected layers of `rung` in the place of the original ones, and no layer scale.
fn replaced(
    description: &Description,
    weights: &Weights,
    corrections: &Corrections,
    rung: usize,
) -> (Description, Weights) {
    let (mut description, mut weights) = (description.clone(), weights.clone());
    let (_, group, place) = corrections.places().find(|(number, ..)| *number == rung).unwrap();
    for (index, block) in description.blocks.iter_mut().enumerate() {
        let corrected = &corrections.groups[group].blocks[index];
        let (Mlp::Plain { down, .. } | Mlp::Gated { down, .. }) = &mut block.mlp;
        for (layer, correction) in [(&mut block.projection, &corrected.projection), (down, &corrected.down)] {
            let Linear { weight, bias } = layer;
            let width = correction.biases.shape[1];
            let bias = bias.get_or_insert_with(|| TensorRef { name: format!("{}.bias", weight.name), rows: None });
            let row = correction.biases.data[place * width..][..width].to_vec();
            weights.insert(weight.name.clone(), correction.weight.clone());
            weights.insert(bias.name.clone(), PlainTensor { shape: vec![width], data: row });
        }
        (block.layer_scale1, block.layer_scale2) = (None, None);
    }
    (description, weights)
}

#[test]
fn a_corrected_rung_is_the_model_with_those_matrices() {
    for gated in [false, true] {
        let (description, weights) = tiny(4, gated);
        let pixels = pixels(2, 7 * 48);
        for mode in ALL {
            let corrections = fitted(&description, &weights, &pixels, mode);
            let vit = ElasticVit::new(&description, &weights).unwrap().with_corrections(&corrections).unwrap();
            let rungs = rungs(&description);
            for (number, (rung, ..)) in corrections.places().enumerate() {
                let kept = Corrected { kept: &rungs[rung], correction: Some(number) };
                let found = last_tokens(&vit, &pixels, &kept);
                let (description, weights) = replaced(&description, &weights, &corrections, rung);
                let plain = ElasticVit::new(&description, &weights).unwrap();
                let kept = Corrected { kept: &rungs[rung], correction: None };
                assert_eq!(found, last_tokens(&plain, &pixels, &kept), "{mode:?}, rung {rung}");
            }
        }
    }
}

#[test]
fn a_correction_brings_the_tokens_nearer() {
    let (description, weights) = tiny(3, false);
    let pixels = pixels(2, 64 * 48);
    let rungs = rungs(&description);
    let error = |mode: Mode| {
        let corrections = fitted(&description, &weights, &pixels, mode);
        let vit = ElasticVit::new(&description, &weights).unwrap().with_corrections(&corrections).unwrap();
        let tokens =
            |rung: usize, correction| last_tokens(&vit, &pixels, &Corrected { kept: &rungs[rung], correction });
        let correction = corrections.places().position(|(rung, ..)| rung == 2);
        tokens(0, None).iter().zip(tokens(2, correction)).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
    };
    let [none, mean, shared, sequential, per_rung] =
        [Mode::None, Mode::Mean, Mode::Shared, Mode::Sequential, Mode::PerRung].map(error);
    assert!(mean < none, "{mean} {none}");
    assert!(shared < mean, "{shared} {mean}");
    assert!(sequential < mean, "{sequential} {mean}");
    assert!(per_rung < sequential, "{per_rung} {sequential}");
}

#[test]
fn neither_threads_nor_batches_change_it() {
    let (description, weights) = tiny(3, true);
    let pixels = pixels(5, 700 * 48);
    let all = fitted(&description, &weights, &pixels, Mode::Sequential);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(all, pool.install(|| fitted(&description, &weights, &pixels, Mode::Sequential)));
}

#[test]
fn every_layer_is_told() {
    let (description, weights) = tiny(3, false);
    let (model, pixels) = (model(&description, &weights), pixels(5, 48));
    for mode in [Mode::None, Mode::Mean, Mode::Shared, Mode::Sequential, Mode::PerRung] {
        let last = std::sync::atomic::AtomicUsize::new(0);
        let options = Options { mode, feedback: 1.0, damping: Damping::Max, interrupt: &NEVER };
        let done = |done| last.store(done, Ordering::Relaxed);
        let sub_networks = rungs(&description);
        let rungs = Rungs { chosen: &[2], ..both(&sub_networks) };
        fit(&model, rungs, &pixels, options, &done).unwrap();
        assert_eq!(last.into_inner(), layers(mode, 2, 2, 1), "{mode:?}");
    }
}

#[test]
fn what_cannot_be_fitted_is_refused() {
    let (description, weights) = tiny(3, false);
    let model = model(&description, &weights);
    let run = |pixels: &[f32], interrupt: &AtomicBool| {
        let options = Options { mode: Mode::Sequential, feedback: 1.0, damping: Damping::Percentile, interrupt };
        fit(&model, both(&rungs(&description)), pixels, options, &|_| {}).unwrap_err().to_string()
    };
    assert_eq!(run(&pixels(5, 47), &NEVER), "47 pixel values are no whole images of 48");
    assert_eq!(run(&[], &NEVER), "0 pixel values are no whole images of 48");
    let not_finite = "the second moments of 4 inputs cannot be inverted: a value is not finite";
    assert_eq!(run(&[f32::NAN; 48], &NEVER), not_finite);
    assert_eq!(run(&pixels(5, 48), &AtomicBool::new(true)), "interrupted after 1 layers");
}

/// A group's equations from rows, one after the other.
fn naive_gradient(
    rungs: &[(Vec<f32>, Vec<f32>, usize)],
    weights: &[f64],
    matrix: &[Vec<f64>],
    original: &[Vec<f64>],
    outputs: usize,
    ridge: f64,
) -> Vec<Vec<f64>> {
    let inputs = matrix.len();
    let difference = |i: usize, j: usize| ridge * (matrix[i][j] - original[i][j]);
    let mut gradient: Vec<Vec<f64>> = (0..inputs).map(|i| (0..outputs).map(|j| difference(i, j)).collect()).collect();
    for ((a, t, width), weight) in rungs.iter().zip(weights) {
        let rows = t.len() / outputs;
        let mean = |values: &[f32], width: usize| -> Vec<f64> {
            column_sums(values, width).into_iter().map(|sum| sum / rows as f64).collect()
        };
        let (mean_a, mean_t) = (mean(a, *width), mean(t, outputs));
        for (a, t) in a.chunks(*width).zip(t.chunks(outputs)) {
            let a: Vec<f64> = a.iter().zip(&mean_a).map(|(&a, mean)| f64::from(a) - mean).collect();
            for j in 0..outputs {
                let predicted: f64 = (0..*width).map(|i| a[i] * matrix[i][j]).sum();
                let error = predicted - (f64::from(t[j]) - mean_t[j]);
                for i in 0..*width {
                    gradient[i][j] += weight * a[i] * error / rows as f64;
                }
            }
        }
    }
    gradient
}

proptest! {
    /// At the solution the gradient of the weighted, damped squares is zero.
    #[test]
    fn the_matrix_minimises_the_squares(
        outputs in 1..4_usize,
        widths in proptest::collection::vec(1..5_usize, 1..4),
        values in proptest::collection::vec(-2.0..2.0_f32, 400),
        on_host in any::<bool>(),
    ) {
        let inputs = *widths.iter().max().unwrap();
        let mut values = values.into_iter().cycle();
        let mut take = |count: usize| (0..count).map(|_| values.next().unwrap()).collect::<Vec<f32>>();
        let original = take(inputs * outputs);
        let tensor = Tensor::from_slice(&original, (inputs, outputs), &Device::Cpu).unwrap();
        let rungs: Vec<_> = widths.iter().map(|&width| (take(12 * width), take(12 * outputs), width)).collect();
        let (mut sum, mut weights) = (Equations::default(), Vec::new());
        for (a, t, width) in &rungs {
            let moments = |on_host| Moments::sum(on_host, 3, |batch| {
                let a = Tensor::from_slice(&a[batch * 4 * width..][..4 * width], (4, *width), &Device::Cpu)?;
                Ok(Some((a, Tensor::from_slice(&t[batch * 4 * outputs..][..4 * outputs], (4, outputs), &Device::Cpu)?)))
            }).unwrap().unwrap();
            let kept = KeptInputs::First(*width);
            let full = equations::matrix(&kept.select(&tensor, 0).unwrap()).unwrap();
            let Moments::Host(host) = moments(true) else { panic!("the host sums what is asked of it") };
            weights.push(equations::weight(&host.central(), &full));
            sum = sum.with(&moments(on_host), &tensor, &kept).unwrap();
        }
        let sum = sum.read().unwrap().unwrap();
        let ridge = sum.ridge(Damping::Max, RIDGE);
        let solution = sum.solve(&tensor, Damping::Max, RIDGE).unwrap();
        let rows = |tensor: &Tensor| -> Vec<Vec<f64>> {
            tensor.to_dtype(DType::F64).unwrap().to_vec2().unwrap()
        };
        let gradient = naive_gradient(&rungs, &weights, &rows(&solution), &rows(&tensor), outputs, ridge);
        let scale = weights.iter().sum::<f64>().max(1.0);
        for value in gradient.iter().flatten() {
            prop_assert!(value.abs() < 1e-4 * scale, "{value} beside {scale}");
        }
    }
}
