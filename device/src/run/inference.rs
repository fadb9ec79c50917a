//! Images or synthetic frames through one rung, one result line each.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use headroom_shared::{Rung, StructureMap};

use super::image_files::for_each_image;
use super::output::{DEFAULT_TOP_K, Line, OUTPUT_VERSION, top_classes, write_line};
use super::{Arguments, DeviceChoice, RunError};
use crate::budget::Budget;
use crate::bundle::Bundle;
use crate::error_text::with_causes;
use crate::images::{Preprocessor, RgbImage};
use crate::rung_engine::{RungEngine, RungWorkspace};

/// Runs what the command line asks for.
pub(super) fn run(bundle: &Arc<Bundle>, arguments: &Arguments) -> Result<(), RunError> {
    let has_classes = bundle.description().head.is_some();
    if arguments.top_k.is_some() && !has_classes {
        return Err(RunError::NoClassifier);
    }
    let map = bundle.structure_map();
    let index = chosen_rung(&map, arguments)?;
    // Refused before anything else, where the model's input is no RGB image.
    let preprocessor = Preprocessor::new(&bundle.description().image)?;
    let mut inference = Inference {
        bundle,
        engine: Engine::new(bundle, arguments, index, preprocessor)?,
        index,
        rung: map.rungs()[index],
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
enum Engine {
    Cpu(Box<(RungEngine, RungWorkspace)>),
    /// Made for the chosen rung alone.
    #[cfg(feature = "cuda")]
    Cuda {
        preprocessor: Box<Preprocessor>,
        vit: Box<crate::cuda::CudaVit>,
        output: crate::cuda::CudaOutput,
    },
}

impl Engine {
    fn new(
        bundle: &Arc<Bundle>,
        arguments: &Arguments,
        rung: usize,
        preprocessor: Preprocessor,
    ) -> Result<Self, RunError> {
        let device = arguments.device.unwrap_or(DeviceChoice::Cpu);
        let on_gpu = match device {
            DeviceChoice::Cpu => None,
            DeviceChoice::Auto => Some(Self::on_gpu(bundle, arguments, 0, rung, preprocessor)),
            DeviceChoice::Cuda(ordinal) => Some(Self::on_gpu(bundle, arguments, ordinal, rung, preprocessor)),
        };
        match on_gpu {
            None => {}
            Some(Err(error)) if device == DeviceChoice::Auto => {
                anstream::eprintln!("running on the CPU: {}", with_causes(&error));
            }
            Some(engine) => return engine,
        }
        let engine = RungEngine::partial(bundle.clone(), arguments.precision())?;
        engine.check(rung)?;
        let workspace = engine.workspace(arguments.threads());
        Ok(Self::Cpu(Box::new((engine, workspace))))
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(
        bundle: &Bundle,
        arguments: &Arguments,
        ordinal: usize,
        rung: usize,
        preprocessor: Preprocessor,
    ) -> Result<Self, RunError> {
        use crate::cuda::{CudaError, CudaOutput, CudaVit, weights::LaidOutWeights};
        use crate::switch::RungTable;

        let path = arguments.bundle.as_deref().ok_or(RunError::NoBundle)?;
        let (weights, corrections) =
            bundle.read_weights(path).map_err(|source| RunError::Bundle { path: path.to_path_buf(), source })?;
        let description = bundle.description();
        let laid_out = LaidOutWeights::new(description, &weights, &corrections).map_err(CudaError::from)?;
        drop((weights, corrections));
        let table = RungTable::new(&bundle.structure_map());
        let kept = bundle.corrected(rung, &table.sub_networks()[rung]);
        let vit = CudaVit::new(ordinal, description, &laid_out, &[kept])?;
        anstream::eprintln!("running on {} in f16", vit.device());
        Ok(Self::Cuda { preprocessor: Box::new(preprocessor), vit: Box::new(vit), output: CudaOutput::default() })
    }

    #[cfg(not(feature = "cuda"))]
    fn on_gpu(_: &Bundle, _: &Arguments, _: usize, _: usize, _: Preprocessor) -> Result<Self, RunError> {
        Err(RunError::NoCuda)
    }
}

struct Inference<'a> {
    bundle: &'a Bundle,
    engine: Engine,
    index: usize,
    rung: Rung<'a>,
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
            Engine::Cpu(cpu) => {
                let (engine, workspace) = &mut **cpu;
                workspace.set_image(image)?;
                let start = Instant::now();
                let output = engine.infer(workspace, self.index)?;
                (start.elapsed().as_secs_f64() * 1e3, output.embedding, output.logits)
            }
            #[cfg(feature = "cuda")]
            Engine::Cuda { preprocessor, vit, output } => {
                let pixels = preprocessor.evaluation(image)?;
                let start = Instant::now();
                *output = vit.infer(&pixels, 0)?;
                let logits = (!output.logits.is_empty()).then_some(output.logits.as_slice());
                (start.elapsed().as_secs_f64() * 1e3, output.pooled.as_slice(), logits)
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
