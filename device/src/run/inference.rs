//! Images or synthetic frames through one rung, one result line each.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use headroom_shared::{Rung, StructureMap, SubNetwork};

use super::image_files::for_each_image;
use super::output::{DEFAULT_TOP_K, Line, OUTPUT_VERSION, top_classes, write_line};
use super::{Arguments, DeviceChoice, Precision, RunError};
use crate::budget::Budget;
use crate::bundle::Bundle;
use crate::engine::{Corrected, Workspace};
use crate::error_text::with_causes;
use crate::images::{Preprocessor, RgbImage};
use crate::integer::{IntegerOutput, PackedIntegerVit};
use crate::switch::RungTable;

/// Runs what the command line asks for.
pub(super) fn run(bundle: &Bundle, arguments: &Arguments) -> Result<(), RunError> {
    let has_classes = bundle.description().head.is_some();
    if arguments.top_k.is_some() && !has_classes {
        return Err(RunError::NoClassifier);
    }
    let map = bundle.structure_map();
    let index = chosen_rung(&map, arguments)?;
    let sub_network = RungTable::new(&map).sub_networks()[index];
    let mut inference = Inference {
        bundle,
        engine: Engine::new(bundle, arguments, &bundle.corrected(index, &sub_network))?,
        index,
        rung: map.rungs()[index],
        sub_network,
        preprocessor: Preprocessor::new(&bundle.description().image)?,
        top_k: (has_classes && !arguments.embedding).then(|| arguments.top_k.unwrap_or(DEFAULT_TOP_K)),
    };
    match (&arguments.input, arguments.synthetic) {
        (Some(path), _) => inference.run_images(path),
        (None, frames) => inference.run_synthetic(frames.unwrap_or(0)),
    }
}

/// The rung that `--rung` or `--macs` names; the dense one where neither is given.
fn chosen_rung(map: &StructureMap<'_>, arguments: &Arguments) -> Result<usize, RunError> {
    let rungs = map.rungs();
    if let Some(found) = arguments.rung {
        let last = rungs.len() - 1;
        return if found <= last { Ok(found) } else { Err(RunError::NoSuchRung { found, last }) };
    }
    let Some(budget) = arguments.macs else { return Ok(0) };
    Ok(Budget { macs: Some(budget.of(rungs[0].macs)), ..Budget::default() }.choose(rungs)?)
}

/// What runs, with its buffers.
enum Engine<'a> {
    F32(Box<Workspace>),
    Int8 {
        vit: Box<PackedIntegerVit<'a>>,
        embedding: Vec<f32>,
        logits: Vec<f32>,
    },
    /// Made for the chosen rung alone.
    #[cfg(feature = "cuda")]
    Cuda {
        vit: Box<crate::cuda::CudaVit>,
        output: crate::cuda::CudaOutput,
    },
}

impl<'a> Engine<'a> {
    fn new(bundle: &'a Bundle, arguments: &Arguments, kept: &Corrected<'_, SubNetwork>) -> Result<Self, RunError> {
        let device = arguments.device.unwrap_or(DeviceChoice::Cpu);
        let on_gpu = match device {
            DeviceChoice::Cpu => None,
            DeviceChoice::Auto => Some(Self::on_gpu(bundle, arguments, 0, kept)),
            DeviceChoice::Cuda(ordinal) => Some(Self::on_gpu(bundle, arguments, ordinal, kept)),
        };
        match on_gpu {
            None => {}
            Some(Err(error)) if device == DeviceChoice::Auto => {
                anstream::eprintln!("running on the CPU: {}", with_causes(&error));
            }
            Some(engine) => return engine,
        }
        if arguments.precision != Some(Precision::Int8) {
            return Ok(Self::F32(Box::new(bundle.vit().workspace_with_threads(1, arguments.threads()))));
        }
        let model = bundle.integer_model().ok_or(RunError::NoIntegerModel)?;
        Ok(Self::Int8 {
            embedding: vec![0.0; model.sizes().embed_dim],
            logits: vec![0.0; model.sizes().classes],
            vit: Box::new(PackedIntegerVit::with_threads(model, arguments.threads())),
        })
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(
        bundle: &Bundle,
        arguments: &Arguments,
        ordinal: usize,
        kept: &Corrected<'_, SubNetwork>,
    ) -> Result<Self, RunError> {
        use crate::cuda::{CudaError, CudaOutput, CudaVit, weights::LaidOutWeights};

        let path = arguments.bundle.as_deref().ok_or(RunError::NoBundle)?;
        let (weights, corrections) =
            bundle.read_weights(path).map_err(|source| RunError::Bundle { path: path.to_path_buf(), source })?;
        let description = bundle.description();
        let laid_out = LaidOutWeights::new(description, &weights, &corrections).map_err(CudaError::from)?;
        drop((weights, corrections));
        let vit = CudaVit::new(ordinal, description, &laid_out, &[*kept])?;
        anstream::eprintln!("running on {} in f16", vit.device());
        Ok(Self::Cuda { vit: Box::new(vit), output: CudaOutput::default() })
    }

    #[cfg(not(feature = "cuda"))]
    fn on_gpu(_: &Bundle, _: &Arguments, _: usize, _: &Corrected<'_, SubNetwork>) -> Result<Self, RunError> {
        Err(RunError::NoCuda)
    }
}

struct Inference<'a> {
    bundle: &'a Bundle,
    engine: Engine<'a>,
    index: usize,
    rung: Rung<'a>,
    sub_network: SubNetwork,
    preprocessor: Preprocessor,
    /// `None` prints embeddings.
    top_k: Option<usize>,
}

impl Inference<'_> {
    fn run_images(&mut self, path: &Path) -> Result<(), RunError> {
        for_each_image(path, |name, image| {
            self.run_one(&name, &image)?;
            Ok(ControlFlow::Continue(()))
        })
    }

    fn run_synthetic(&mut self, count: u64) -> Result<(), RunError> {
        let frames = super::synthetic_frames(self.bundle.description());
        for (index, frame) in (0..count).zip(frames) {
            self.run_one(&format!("synthetic:{index}"), &frame)?;
        }
        Ok(())
    }

    fn run_one(&mut self, input: &str, image: &RgbImage) -> Result<(), RunError> {
        let (milliseconds, pooled, logits) = match &mut self.engine {
            Engine::F32(workspace) => {
                let pixels = self.preprocessor.evaluation(image)?;
                let kept = self.bundle.corrected(self.index, &self.sub_network);
                let start = Instant::now();
                let output = self.bundle.vit().embed(workspace, &pixels, 1, &kept)?;
                (start.elapsed().as_secs_f64() * 1e3, output.pooled, output.logits)
            }
            #[cfg(feature = "cuda")]
            Engine::Cuda { vit, output } => {
                let pixels = self.preprocessor.evaluation(image)?;
                let start = Instant::now();
                *output = vit.infer(&pixels, 0)?;
                let logits = (!output.logits.is_empty()).then_some(output.logits.as_slice());
                (start.elapsed().as_secs_f64() * 1e3, output.pooled.as_slice(), logits)
            }
            Engine::Int8 { vit, embedding, logits } => {
                let frame = self.preprocessor.evaluation_frame(image)?;
                let start = Instant::now();
                // The integer model has its own list of the rungs that run with a correction.
                let correction = vit.model().correction_of_rung(self.index);
                let kept = Corrected { kept: &self.sub_network, correction };
                let output =
                    IntegerOutput { embedding: Some(&mut *embedding), logits: Some(&mut *logits), tokens: None };
                vit.infer(frame.as_raw(), &kept, output)?;
                let logits = (!logits.is_empty()).then_some(logits.as_slice());
                (start.elapsed().as_secs_f64() * 1e3, embedding.as_slice(), logits)
            }
        };
        let labels = self.bundle.description().labels.as_deref();
        let line = Line {
            version: OUTPUT_VERSION,
            input,
            rung: self.index,
            macs: self.rung.macs,
            fidelity: self.rung.fidelity,
            milliseconds,
            queued_milliseconds: None,
            classes: self.top_k.and_then(|count| top_classes(logits, count, labels)),
            embedding: self.top_k.is_none().then_some(pooled),
        };
        Ok(write_line(&line)?)
    }
}
