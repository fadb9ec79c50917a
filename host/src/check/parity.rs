//! Whole models: what PyTorch computed for the golden cases, and the two executors on the demo model.

use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use headroom_device::engine::{Corrected, ElasticVit};
use headroom_device::model::weights::Tensor as PlainTensor;
use headroom_device::model::{Corrections, Weights};
use headroom_shared::SubNetwork;

use super::comparison::{BETWEEN_EXECUTORS, FROM_PYTORCH, Measure, OF_F16, Outputs, largest, relative_difference};
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
/// Its results.
const TOKENS: &str = "last_hidden_state";
const POOLED: &str = "pooled";
/// Of a classifier, or of a projection.
const LOGITS: [&str; 2] = ["logits", "image_embeds"];

/// What a model computes, with its tokens.
struct WithTokens {
    tokens: Vec<f32>,
    outputs: Outputs,
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
            let name = case.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            if let Err(error) = self.golden_case(&case, &name) {
                let limit = (Measure::RelativeDifference, FROM_PYTORCH);
                self.checks.push(Check::new(STAGE, "golden case with PyTorch", name, limit, Err(error)));
            }
        }
        self.demo_model()
    }

    /// An error is of the case, and not of one of those that run it.
    fn golden_case(&mut self, case: &Path, name: &str) -> Result<(), CheckError> {
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
        let are_images = |pixels: &&PlainTensor| pixels.shape.get(1..) == Some(&size[..]) && pixels.shape[0] > 0;
        let pixels = reference.get("pixel_values").filter(are_images);
        let pixels = pixels.ok_or(CheckError::NoPixels { path })?;
        if [TOKENS, POOLED].into_iter().chain(LOGITS).all(|output| reference.get(output).is_none()) {
            self.left_out.push(format!("{name}, of which `{REFERENCE}` has no result"));
            return Ok(());
        }
        let weights = checkpoint.weights()?;
        let dense = SubNetwork::dense(&model_shape(&checkpoint)?);
        let engine = ElasticVit::new(&checkpoint.description, &weights)?;
        let candle = self.candle(&checkpoint, &weights).and_then(|candle| run_candle(&candle, pixels));
        let compared =
            [("CPU engine with PyTorch", run_engine(&engine, pixels, &dense)), ("candle with PyTorch", candle)];
        for (comparison, found) in compared {
            let found = found.map(|found| difference(&found, &reference));
            let limit = (Measure::RelativeDifference, FROM_PYTORCH);
            self.checks.push(Check::new(STAGE, comparison, name, limit, found));
        }
        self.gpu_engine(&checkpoint, &weights, &engine, &dense, name, (&pixels.data, &reference));
        Ok(())
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
    ) {
        const COMPARISON: &str = "GPU engine with PyTorch";
        if self.gpu().is_none() {
            return;
        }
        let images = pixels.len() / engine.pixels();
        let expected = |outputs: &[&str], image: usize| {
            let values = &outputs.iter().find_map(|output| reference.get(output))?.data;
            // Too few values for the images are as good as none.
            values.chunks_exact((values.len() / images).max(1)).nth(image)
        };
        if expected(&[POOLED], 0).or(expected(&LOGITS, 0)).is_none() {
            self.left_out.push(format!("{name} on the GPU engine, which gives no tokens"));
            return;
        }
        let rungs = [Corrected { kept: dense, correction: None }];
        let corrections = Corrections::default();
        let description = &checkpoint.description;
        let model = Model { description, weights, corrections: &corrections, engine, rungs: &rungs };
        let mut subject = match Subject::new(self.gpu(), &model) {
            #[cfg(feature = "cuda")]
            Err(CheckError::Cuda(headroom_device::cuda::CudaError::Unsupported(reason))) => {
                self.left_out.push(format!("{name} on the GPU engine: {reason}"));
                return;
            }
            Err(error) => {
                let limit = (Measure::CosineDistance, OF_F16);
                self.checks.push(Check::new(STAGE, COMPARISON, name, limit, Err(error)));
                return;
            }
            Ok(subject) => subject,
        };
        for (image, pixels) in pixels.chunks_exact(engine.pixels()).enumerate() {
            let found = subject.run(0, pixels).map(|(Outputs { pooled, logits }, _)| {
                let pairs = [
                    (Some(pooled.as_slice()), expected(&[POOLED], image)),
                    (logits.as_deref(), expected(&LOGITS, image)),
                ];
                largest(pairs.into_iter().filter_map(|(found, expected)| {
                    let expected = expected?;
                    Some(found.map_or(f64::NAN, |found| subject.distance()(found, expected)))
                }))
            });
            let of = format!("{name}, image {image}");
            self.checks.push(Check::new(STAGE, COMPARISON, of, subject.limit(), found));
        }
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
        let found = self.candle(&checkpoint, &weights).and_then(|candle| run_candle(&candle, &pixels));
        let found = found.map(|found| {
            let tokens = relative_difference(&found.tokens, &expected.tokens);
            largest([tokens, found.outputs.distance(&expected.outputs, relative_difference)])
        });
        let limit = (Measure::RelativeDifference, BETWEEN_EXECUTORS);
        self.checks.push(Check::new(STAGE, "candle with the CPU engine", "demo model", limit, found));
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

fn run_engine(engine: &ElasticVit, pixels: &PlainTensor, dense: &SubNetwork) -> Result<WithTokens, CheckError> {
    let batch = pixels.shape[0];
    let mut workspace = engine.workspace(batch);
    let output = engine.forward(&mut workspace, &pixels.data, batch, dense)?;
    let outputs = Outputs { pooled: output.pooled.to_vec(), logits: output.logits.map(<[f32]>::to_vec) };
    Ok(WithTokens { tokens: output.tokens.to_vec(), outputs })
}

fn run_candle(model: &CandleVit, pixels: &PlainTensor) -> Result<WithTokens, CheckError> {
    let pixels = Tensor::from_slice(&pixels.data, pixels.shape.as_slice(), &candle_core::Device::Cpu)?;
    let output = model.forward(&pixels)?;
    Ok(WithTokens { tokens: super::values(&output.tokens)?, outputs: super::outputs(&output)? })
}

/// The largest difference from what a golden case has; NaN where the case has logits and the model none.
fn difference(found: &WithTokens, reference: &Weights) -> f64 {
    let WithTokens { tokens, outputs: Outputs { pooled, logits } } = found;
    let named = [(TOKENS, Some(tokens)), (POOLED, Some(pooled))];
    let named = named.into_iter().chain(LOGITS.map(|name| (name, logits.as_ref())));
    largest(named.filter_map(|(name, found)| {
        let expected = &reference.get(name)?.data;
        Some(found.map_or(f64::NAN, |found| relative_difference(found, expected)))
    }))
}
