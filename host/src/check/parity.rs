//! Whole models: what PyTorch computed for the golden cases, and the two executors on the demo model.

use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use headroom_device::engine::{Corrected, ElasticVit};
use headroom_device::model::weights::Tensor as PlainTensor;
use headroom_device::model::{Corrections, Weights};
use headroom_shared::SubNetwork;

use super::comparison::{BETWEEN_EXECUTORS, FROM_PYTORCH, Measure, relative_difference};
use super::report::Check;
use super::subject::{Model, Subject};
use super::{CheckError, Checking};
use crate::checkpoint::{Checkpoint, CheckpointError, OpenOptions};
use crate::demo;
use crate::executor::CandleVit;
use crate::shape::model_shape;

const STAGE: &str = "parity";
/// What a golden case has of inputs and results.
const REFERENCE: &str = "io.safetensors";

/// What a model computes.
struct Outputs {
    tokens: Vec<f32>,
    pooled: Vec<f32>,
    logits: Option<Vec<f32>>,
}

impl Checking<'_> {
    /// Compares every golden case, and the demo model.
    pub(super) fn parity(&mut self) -> Result<(), CheckError> {
        let cases = cases(&self.options.fixtures);
        if cases.is_empty() {
            self.left_out.push(format!("golden cases, of which `{}` has none", self.options.fixtures.display()));
        }
        for case in cases {
            self.stop_if_interrupted()?;
            self.golden_case(&case)?;
        }
        self.demo_model()
    }

    fn golden_case(&mut self, case: &Path) -> Result<(), CheckError> {
        let name = case.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let checkpoint = match Checkpoint::open_with(case, &OpenOptions::default()) {
            Err(CheckpointError::Unsupported { seen, .. }) => {
                self.left_out.push(format!("{name}, of no supported family: {seen}"));
                return Ok(());
            }
            checkpoint => checkpoint?,
        };
        let path = case.join(REFERENCE);
        let bytes = std::fs::read(&path).map_err(|source| CheckError::Read { path: path.clone(), source })?;
        let reference =
            Weights::from_safetensors(&bytes).map_err(|source| CheckError::Reference { path: path.clone(), source })?;
        let image = &checkpoint.description.image;
        let size = [image.channels, image.height, image.width];
        let pixels = reference.get("pixel_values").filter(|pixels| pixels.shape.get(1..) == Some(&size[..]));
        let pixels = pixels.ok_or(CheckError::NoPixels { path })?;
        let weights = checkpoint.weights()?;
        let dense = SubNetwork::dense(&model_shape(&checkpoint)?);
        let engine = ElasticVit::new(&checkpoint.description, &weights)?;
        let compared = [
            ("CPU engine with PyTorch", run_engine(&engine, pixels, &dense)?),
            ("candle with PyTorch", run_candle(&self.candle(&checkpoint, &weights)?, pixels)?),
        ];
        for (comparison, found) in compared {
            let difference = difference(&found, &reference);
            let found = (Measure::RelativeDifference, difference, FROM_PYTORCH);
            self.checks.push(Check::new(STAGE, comparison, name.as_str(), found));
        }
        self.gpu_engine(&checkpoint, &weights, &engine, &dense, &name, (&pixels.data, &reference))
    }

    /// The GPU engine on the images of a golden case, one by one.
    fn gpu_engine(
        &mut self,
        checkpoint: &Checkpoint,
        weights: &Weights,
        engine: &ElasticVit,
        dense: &SubNetwork,
        name: &str,
        (pixels, reference): (&[f32], &Weights),
    ) -> Result<(), CheckError> {
        if self.gpu().is_none() {
            return Ok(());
        }
        let rungs = [Corrected { kept: dense, correction: None }];
        let corrections = Corrections::default();
        let description = &checkpoint.description;
        let model = Model { description, weights, corrections: &corrections, engine, rungs: &rungs };
        let mut subject = match Subject::new(self.gpu(), &model) {
            #[cfg(feature = "cuda")]
            Err(CheckError::Cuda(headroom_device::cuda::CudaError::Unsupported(reason))) => {
                self.left_out.push(format!("{name} on the GPU engine: {reason}"));
                return Ok(());
            }
            subject => subject?,
        };
        let Some(expected) = reference.get("pooled") else { return Ok(()) };
        let images = pixels.chunks_exact(engine.pixels()).zip(expected.data.chunks_exact(engine.embed_dim()));
        for (image, (pixels, expected)) in images.enumerate() {
            let (found, _) = subject.run(0, pixels)?;
            let distance = subject.distance(&found, expected);
            self.checks.push(Check::new(STAGE, "GPU engine with PyTorch", format!("{name}, image {image}"), distance));
        }
        Ok(())
    }

    /// candle on the device against the CPU engine, which needs no reference.
    fn demo_model(&mut self) -> Result<(), CheckError> {
        let checkpoint = Checkpoint::from_bytes(demo::WEIGHTS, Some(demo::CONFIG), &OpenOptions::default())?;
        let weights = checkpoint.weights()?;
        let dense = SubNetwork::dense(&model_shape(&checkpoint)?);
        let engine = ElasticVit::new(&checkpoint.description, &weights)?;
        let image = &checkpoint.description.image;
        let pixels = PlainTensor {
            shape: vec![1, image.channels, image.height, image.width],
            data: super::image(engine.pixels(), self.options.seed),
        };
        let expected = run_engine(&engine, &pixels, &dense)?;
        let found = run_candle(&self.candle(&checkpoint, &weights)?, &pixels)?;
        let pairs = [(&found.tokens, &expected.tokens), (&found.pooled, &expected.pooled)];
        let worst = pairs.map(|(found, expected)| relative_difference(found, expected));
        let found = (Measure::RelativeDifference, largest(worst), BETWEEN_EXECUTORS);
        self.checks.push(Check::new(STAGE, "candle with the CPU engine", "demo model", found));
        Ok(())
    }

    fn candle(&self, checkpoint: &Checkpoint, weights: &Weights) -> Result<CandleVit, CheckError> {
        Ok(CandleVit::load(&checkpoint.description, weights, self.chosen.first(), DType::F32)?)
    }
}

/// The case folders in `folder`, sorted; none where it is absent.
fn cases(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut cases: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    cases.retain(|case| case.join(REFERENCE).is_file());
    cases.sort();
    cases
}

fn run_engine(engine: &ElasticVit, pixels: &PlainTensor, dense: &SubNetwork) -> Result<Outputs, CheckError> {
    let batch = pixels.shape[0];
    let mut workspace = engine.workspace(batch);
    let output = engine.forward(&mut workspace, &pixels.data, batch, dense)?;
    Ok(Outputs {
        tokens: output.tokens.to_vec(),
        pooled: output.pooled.to_vec(),
        logits: output.logits.map(<[f32]>::to_vec),
    })
}

fn run_candle(model: &CandleVit, pixels: &PlainTensor) -> Result<Outputs, CheckError> {
    let pixels = Tensor::from_slice(&pixels.data, pixels.shape.as_slice(), &candle_core::Device::Cpu)?;
    let output = model.forward(&pixels)?;
    Ok(Outputs {
        tokens: super::values(&output.tokens)?,
        pooled: super::values(&output.pooled)?,
        logits: output.logits.as_ref().map(super::values).transpose()?,
    })
}

/// The largest difference from what a golden case has.
fn difference(found: &Outputs, reference: &Weights) -> f64 {
    let Outputs { tokens, pooled, logits } = found;
    let differences = [
        ("last_hidden_state", Some(tokens)),
        ("pooled", Some(pooled)),
        ("logits", logits.as_ref()),
        ("image_embeds", logits.as_ref()),
    ]
    .into_iter()
    .filter_map(|(name, found)| Some(relative_difference(found?, &reference.get(name)?.data)));
    // Nothing to compare is no agreement.
    differences.reduce(|a, b| largest([a, b])).unwrap_or(f64::NAN)
}

/// NaN is larger than any number.
fn largest<const N: usize>(values: [f64; N]) -> f64 {
    values
        .into_iter()
        .map(|value| if value.is_nan() { f64::NAN } else { value })
        .max_by(f64::total_cmp)
        .unwrap_or(f64::NAN)
}
