//! Images or synthetic frames through one rung, one result line each.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use headroom_shared::{Rung, StructureMap};

use super::image_files::for_each_image;
use super::output::{DEFAULT_TOP_K, Line, OUTPUT_VERSION, top_classes, write_line};
use super::{Arguments, RunError, engine};
use crate::budget::Budget;
use crate::bundle::Bundle;
use crate::images::{Preprocessor, RgbImage};
use crate::rung_engine::{RungEngine, RungWorkspace};

/// Runs what the command line asks for.
pub(super) fn run(bundle: &Arc<Bundle>, path: &Path, arguments: &Arguments) -> Result<(), RunError> {
    let has_classes = bundle.description().head.is_some();
    if arguments.top_k.is_some() && !has_classes {
        return Err(RunError::NoClassifier);
    }
    let map = bundle.structure_map();
    let index = chosen_rung(&map, arguments)?;
    // Refused before anything else, where the model's input is no RGB image.
    Preprocessor::new(&bundle.description().image)?;
    let engine = engine::partial(bundle.clone(), path, arguments)?;
    engine.check(index)?;
    let mut inference = Inference {
        bundle,
        workspace: engine.workspace(arguments.threads()),
        engine,
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

struct Inference<'a> {
    bundle: &'a Bundle,
    engine: RungEngine,
    workspace: RungWorkspace,
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
        self.workspace.set_image(image)?;
        let start = Instant::now();
        let output = self.engine.infer(&mut self.workspace, self.index)?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        let labels = self.bundle.description().labels.as_deref();
        let line = Line {
            version: OUTPUT_VERSION,
            input,
            rung: self.index,
            macs: self.rung.macs,
            fidelity: self.rung.fidelity,
            milliseconds,
            queued_milliseconds: None,
            classes: self.top_k.and_then(|count| top_classes(output.logits, count, labels)),
            embedding: self.top_k.is_none().then_some(output.embedding),
        };
        Ok(write_line(&line)?)
    }
}
