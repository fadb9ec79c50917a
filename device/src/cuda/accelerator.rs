//! The GPU as the processor of a bundle's rungs.

use std::path::Path;

use super::error::CudaError;
use super::executor::CudaVit;
use super::weights::LaidOutWeights;
use crate::bundle::Bundle;
use crate::rung_engine::{Accelerator, AcceleratorError, AcceleratorOutput};
use crate::switch::RungTable;

/// Loads all rungs of the bundle in the folder `path` to GPU `ordinal`.
///
/// # Errors
/// If its weights are no longer those that were opened, or the GPU cannot run a rung.
pub(crate) fn open(ordinal: usize, bundle: &Bundle, path: &Path) -> Result<Box<dyn Accelerator>, AcceleratorError> {
    let read = bundle.read_weights(path);
    let (weights, corrections) = read.map_err(|error| {
        let hint = error.hint();
        AcceleratorError::new(error, hint.as_deref())
    })?;
    let description = bundle.description();
    let laid_out = LaidOutWeights::new(description, &weights, &corrections).map_err(|error| failed(error.into()))?;
    drop((weights, corrections));
    let table = RungTable::new(&bundle.structure_map());
    let rungs = table.sub_networks().iter().enumerate();
    let rungs: Vec<_> = rungs.map(|(rung, kept)| bundle.corrected(rung, kept)).collect();
    Ok(Box::new(CudaVit::new(ordinal, description, &laid_out, &rungs).map_err(failed)?))
}

fn failed(error: CudaError) -> AcceleratorError {
    let hint = error.hint();
    AcceleratorError::new(error, hint)
}

impl Accelerator for CudaVit {
    fn name(&self) -> &str {
        self.device()
    }

    fn infer(&mut self, pixels: &[f32], rung: usize, output: &mut AcceleratorOutput) -> Result<(), AcceleratorError> {
        let found = CudaVit::infer(self, pixels, rung).map_err(failed)?;
        *output = AcceleratorOutput { embedding: found.pooled, logits: found.logits };
        Ok(())
    }
}
