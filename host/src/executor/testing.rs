//! Golden cases and a tiny model for the tests of the executor and of importance.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use headroom_device::model::description::*;
use headroom_device::model::weights::Tensor as WeightTensor;
use headroom_device::model::{Description, Weights};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A folder of the fixtures whose family the loader knows.
pub struct Case {
    pub name: String,
    pub folder: PathBuf,
}

/// All cases that have `file`. Says what it leaves out.
pub fn cases_with(file: &str) -> Vec<Case> {
    let folder = std::env::var_os("HEADROOM_FIXTURES")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/fixtures")), PathBuf::from);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        // Straight to stderr: the test runner hides what print macros say.
        writeln!(std::io::stderr(), "SKIPPED: no fixtures in {}", folder.display()).unwrap();
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("META.json").exists() && folder.join(file).exists());
    folders.sort();
    let case = |folder: PathBuf| Case { name: folder.file_name().unwrap().to_string_lossy().into_owned(), folder };
    folders.into_iter().map(case).filter(|case| open(&case.folder, None).is_some()).collect()
}

/// The description and weights of a case, `None` with a note if its family is not supported.
pub fn open(folder: &Path, image_size: Option<(usize, usize)>) -> Option<(Description, Weights)> {
    use crate::checkpoint::{Checkpoint, CheckpointError, OpenOptions};
    let options = OpenOptions { image_size, ..OpenOptions::default() };
    match Checkpoint::open_with(folder, &options) {
        Ok(checkpoint) => Some((checkpoint.description.clone(), checkpoint.weights().unwrap())),
        Err(error @ CheckpointError::Unsupported { .. }) => {
            // Straight to stderr: the test runner hides what print macros say.
            writeln!(std::io::stderr(), "SKIPPED {}: {error}", folder.display()).unwrap();
            None
        }
        Err(error) => panic!("{}: {error}", folder.display()),
    }
}

/// The tensors of a reference file.
pub fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

/// `max |found - expected| / max |expected|`, NaN if the shapes differ or anything is NaN.
pub fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    if found.shape() != expected.shape() {
        return f64::NAN;
    }
    let flat = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    difference_of(&flat(found), &flat(expected))
}

/// The same for plain values.
pub fn difference_of(found: &[f64], expected: &[f64]) -> f64 {
    let not_smaller = |a: f64, b: f64| if a.is_nan() || a > b { a } else { b };
    let largest = expected.iter().map(|value| value.abs()).fold(0.0, not_smaller);
    let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, not_smaller);
    if found.len() == expected.len() { apart / largest } else { f64::NAN }
}

/// A seeded random ViT: width 8, 2 heads of 4, 6 neurons, 2 blocks, 4 patches and a class token, and
/// no file behind it.
pub fn tiny(seed: u64, gated: bool) -> (Description, Weights) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = Weights::default();
    let mut tensor = |name: String, shape: &[usize]| {
        let data = (0..shape.iter().product()).map(|_| random.random_range(-0.7..0.7)).collect();
        weights.insert(name.clone(), WeightTensor { shape: shape.to_vec(), data });
        TensorRef { name, rows: None }
    };
    let (width, neurons, heads, head_dim) = (8, 6, 2, 4);
    let blocks = (0..2).map(|block| {
        let mut linear = |name: &str, shape: [usize; 2]| Linear {
            weight: tensor(format!("{block}.{name}.weight"), &shape),
            bias: Some(tensor(format!("{block}.{name}.bias"), &shape[..1])),
        };
        let [query, key, value, projection] = ["q", "k", "v", "p"].map(|name| linear(name, [width, width]));
        let up = linear("up", [neurons, width]);
        let down = linear("down", [width, neurons]);
        let mlp = if gated {
            Mlp::Gated { gate: linear("gate", [neurons, width]), up, down }
        } else {
            Mlp::Plain { up, down }
        };
        let mut norm = |name: &str| LayerNorm {
            weight: tensor(format!("{block}.{name}.weight"), &[width]),
            bias: tensor(format!("{block}.{name}.bias"), &[width]),
            eps: 1e-6,
        };
        let (norm1, norm2) = (norm("norm1"), norm("norm2"));
        let layer_scale1 = Some(tensor(format!("{block}.scale1"), &[width]));
        Block { norm1, query, key, value, projection, layer_scale1, norm2, mlp, layer_scale2: None }
    });
    let blocks = blocks.collect();
    let patch = Linear { weight: tensor("patch".into(), &[width, 3, 2, 2]), bias: None };
    let class = PrefixTokens { kind: PrefixKind::Class, tensor: tensor("class".into(), &[1, width]), count: 1 };
    let position = Position::Learned {
        tensor: tensor("position".into(), &[5, width]),
        prefix_positions: 1,
        grid: (2, 2),
        resampling: PositionResampling::Bicubic,
    };
    let description = Description {
        family: "tiny".into(),
        image: ImageInput {
            height: 4,
            width: 4,
            channels: 3,
            patch: 2,
            mean: [0.5; 3],
            std: [0.5; 3],
            interpolation: Interpolation::Bilinear,
            crop_fraction: 1.0,
            crop_mode: CropMode::Center,
        },
        embed_dim: width,
        heads,
        head_dim,
        neurons,
        activation: if gated { Activation::Silu } else { Activation::Gelu },
        embedding: Embedding { patch, prefix: vec![class], position, norm: None },
        blocks,
        final_norm: None,
        pooling: Pooling::Class,
        head: None,
        labels: None,
    };
    (description, weights)
}

/// Seeded normalised pixels.
pub fn pixels(seed: u64, count: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-2.0..2.0)).collect()
}
