//! The new basis computes the same, and its first dimensions carry the most.

use candle_core::{DType, Device};
use headroom_device::engine::ElasticVit;
use headroom_shared::KeptStructures;

use super::*;
use crate::executor::testing::{cases_with, difference_of, open, pixels, tiny};

static NEVER: AtomicBool = AtomicBool::new(false);

/// All heads and neurons, and the first so many query and value dimensions.
struct FirstDims<'a>(&'a Description, [usize; 2]);

impl KeptStructures for FirstDims<'_> {
    fn heads(&self, _block: usize) -> usize {
        self.0.heads
    }

    fn head(&self, _block: usize, index: usize) -> usize {
        index
    }

    fn neurons(&self, _block: usize) -> usize {
        self.0.neurons
    }

    fn value_dims(&self, _block: usize) -> Option<usize> {
        Some(self.1[1])
    }

    fn query_dims(&self, _block: usize) -> Option<usize> {
        Some(self.1[0])
    }
}

fn basis(description: &Description, weights: &Weights, pixels: &[f32]) -> HeadBasis {
    let model = CandleVit::load(description, weights, &Device::Cpu, DType::F32).unwrap();
    HeadBasis::fit(&model, description, weights, pixels, Dtype::F32, &NEVER, &|_| {}).unwrap()
}

fn applied(basis: &HeadBasis, weights: &Weights) -> Weights {
    let mut weights = weights.clone();
    basis.apply(&mut weights);
    weights
}

fn tokens(description: &Description, weights: &Weights, pixels: &[f32], dims: [usize; 2]) -> Vec<f64> {
    let vit = ElasticVit::new(description, weights).unwrap();
    let images = pixels.len() / vit.pixels();
    let mut workspace = vit.workspace(images);
    let output = vit.forward(&mut workspace, pixels, images, &FirstDims(description, dims)).unwrap();
    output.tokens.iter().map(|&value| f64::from(value)).collect()
}

#[test]
fn every_family_computes_the_same_in_it() {
    let golden = cases_with("io.safetensors");
    let golden = golden.iter().map(|case| (case.name.clone(), open(&case.folder, None).unwrap()));
    let invented = [("tiny".to_owned(), tiny(3, false)), ("tiny gated".to_owned(), tiny(3, true))];
    for (name, (description, weights)) in invented.into_iter().chain(golden) {
        let image = &description.image;
        let pixels = pixels(1, 2 * image.channels * image.height * image.width);
        let mut basis = basis(&description, &weights, &pixels);
        let dense = tokens(&description, &weights, &pixels, [description.head_dim; 2]);
        let same = |basis: &HeadBasis| {
            let found = tokens(&description, &applied(basis, &weights), &pixels, [description.head_dim; 2]);
            let apart = difference_of(&found, &dense);
            assert!(apart < 1e-5, "{name}: {apart:e}");
        };
        same(&basis);
        assert_ne!(applied(&basis, &weights), weights, "{name}");
        let width = description.heads * description.head_dim;
        let scores: Vec<Vec<f64>> = (0..description.blocks.len())
            .map(|block| (0..width).map(|i| ((i * 7 + block) % 5) as f64).collect())
            .collect();
        let mut importance = Importance { value_dims: scores.clone(), query_dims: scores, ..Importance::default() };
        basis.sort(&description, &mut importance).unwrap();
        same(&basis);
        let rotary = matches!(description.embedding.position, Position::Rotary { .. });
        assert_eq!(basis.has_queries(), !rotary, "{name}");
        let falls = |scores: &[Vec<f64>]| {
            let mut heads = scores.iter().flat_map(|block| block.chunks(description.head_dim));
            heads.all(|head| head.is_sorted_by(|a, b| a >= b))
        };
        assert!(falls(&importance.value_dims) && falls(&importance.query_dims) != rotary, "{name}");
    }
}

#[test]
fn the_first_dimensions_carry_the_most() {
    let (description, weights) = tiny(5, false);
    let pixels = pixels(2, 32 * 48);
    let rotated = applied(&basis(&description, &weights, &pixels), &weights);
    let dense = tokens(&description, &weights, &pixels, [4; 2]);
    let error = |weights: &Weights, dims: [usize; 2]| {
        let found = tokens(&description, weights, &pixels, dims);
        found.iter().zip(&dense).map(|(a, b)| (a - b).powi(2)).sum::<f64>()
    };
    for dims in 1..4 {
        assert!(error(&rotated, [4, dims]) < error(&weights, [4, dims]), "{dims}");
        assert!(error(&rotated, [4, dims]) < error(&rotated, [4, dims - 1]), "{dims}");
        assert!(error(&rotated, [dims, 4]) < error(&weights, [dims, 4]), "{dims}");
        assert!(dims == 1 || error(&rotated, [dims, 4]) < error(&rotated, [dims - 1, 4]), "{dims}");
    }
}

#[test]
fn a_head_of_zeros_stays_and_half_precision_is_kept() {
    let (description, mut weights) = tiny(3, false);
    for name in ["0.v.weight", "0.v.bias"] {
        let zeros = weights.get(name).unwrap();
        let zeros = Tensor { shape: zeros.shape.clone(), data: vec![0.0; zeros.data.len()] };
        weights.insert(name, zeros);
    }
    let pixels = pixels(1, 4 * 48);
    let model = CandleVit::load(&description, &weights, &Device::Cpu, DType::F32).unwrap();
    let basis = HeadBasis::fit(&model, &description, &weights, &pixels, Dtype::F16, &NEVER, &|_| {}).unwrap();
    assert_eq!(basis.changed().get("0.p.weight").unwrap().data.len(), 64);
    for (name, tensor) in basis.changed().iter() {
        assert_eq!(widen(Dtype::F16, &narrow(Dtype::F16, &tensor.data)).as_ref(), Some(&tensor.data), "{name}");
    }
}

#[test]
fn what_cannot_be_fitted_is_refused() {
    let (description, weights) = tiny(3, false);
    let model = CandleVit::load(&description, &weights, &Device::Cpu, DType::F32).unwrap();
    let run = |pixels: &[f32], interrupt: &AtomicBool| {
        let fitted = HeadBasis::fit(&model, &description, &weights, pixels, Dtype::F32, interrupt, &|_| {});
        fitted.unwrap_err().to_string()
    };
    assert_eq!(run(&pixels(5, 47), &NEVER), "the model failed");
    assert_eq!(run(&[f32::NAN; 48], &NEVER), "head 0 of block 0 finds values that are not finite");
    assert_eq!(run(&pixels(5, 48), &AtomicBool::new(true)), "interrupted after 0 blocks");
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (description, weights) = tiny(3, true);
    let pixels = pixels(5, 700 * 48);
    let all = basis(&description, &weights, &pixels);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(all, pool.install(|| basis(&description, &weights, &pixels)));
}
