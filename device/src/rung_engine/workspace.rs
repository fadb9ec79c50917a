//! The input of an inference, its buffers and its threads.

use headroom_shared::KeptStructures;

use super::accelerator::{AcceleratorJob, AcceleratorThread};
use super::{AcceleratorOutput, RungEngineError};
use crate::bundle::Bundle;
use crate::engine::{ElasticVit, Workspace};
#[cfg(feature = "images")]
use crate::images::{PreprocessError, Preprocessor, RgbImage};
use crate::integer::{IntegerOutput, IntegerWorkspace, PackedIntegerVit, write_frames};
use crate::model::description::ImageInput;

/// What one inference at a time writes to, with its input: one for each thread that infers.
///
/// Made by [`RungEngine::workspace`](super::RungEngine::workspace). Nothing is allocated after that, but by an image of
/// another size than the one before, and on accelerators.
pub struct RungWorkspace {
    buffers: Buffers,
    /// An error for models whose input is no RGB image.
    #[cfg(feature = "images")]
    preprocessor: Result<Preprocessor, PreprocessError>,
}

enum Buffers {
    F32 { workspace: Box<Workspace>, pixels: Vec<f32> },
    Accelerator { job: AcceleratorJob, pixels: usize },
    Int8 { workspace: Box<IntegerWorkspace>, input: ImageInput, frame: Vec<u8>, embedding: Vec<f32>, logits: Vec<f32> },
}

/// What an inference computed.
#[derive(Clone, Copy, Debug)]
pub struct RungOutput<'w> {
    /// The image embedding.
    pub embedding: &'w [f32],
    /// One value a class, where the model has a classifier.
    pub logits: Option<&'w [f32]>,
}

/// A normalised pixel of the input where none was set.
const GREY: f32 = 0.5;

impl RungWorkspace {
    pub(super) fn of_f32(bundle: &Bundle, threads: usize) -> Self {
        let workspace = Box::new(bundle.vit().workspace_with_threads(1, threads));
        Self::new(bundle, Buffers::F32 { workspace, pixels: vec![GREY; bundle.vit().pixels()] })
    }

    pub(super) fn of_accelerator(bundle: &Bundle) -> Self {
        let pixels = bundle.vit().pixels();
        let job = AcceleratorJob { pixels: vec![GREY; pixels], output: AcceleratorOutput::default() };
        Self::new(bundle, Buffers::Accelerator { job, pixels })
    }

    pub(super) fn of_int8(bundle: &Bundle, vit: &PackedIntegerVit<'_>, threads: usize) -> Self {
        let sizes = vit.model().sizes();
        let buffers = Buffers::Int8 {
            workspace: Box::new(vit.workspace_with_threads(threads)),
            input: bundle.description().image.clone(),
            frame: vec![u8::MAX / 2; sizes.frame_bytes()],
            embedding: vec![0.0; sizes.embed_dim],
            logits: vec![0.0; sizes.classes],
        };
        Self::new(bundle, buffers)
    }

    #[cfg_attr(not(feature = "images"), expect(unused_variables, reason = "images alone need the description"))]
    fn new(bundle: &Bundle, buffers: Buffers) -> Self {
        Self {
            buffers,
            #[cfg(feature = "images")]
            preprocessor: Preprocessor::new(&bundle.description().image),
        }
    }

    /// The threads that share an inference, the calling one counted.
    #[must_use]
    pub fn threads(&self) -> usize {
        match &self.buffers {
            Buffers::F32 { workspace, .. } => workspace.threads(),
            Buffers::Int8 { workspace, .. } => workspace.threads(),
            Buffers::Accelerator { .. } => 1,
        }
    }

    /// Takes the model's input: normalised, `[channels, height, width]`. In int8 it becomes the nearest 8-bit image.
    ///
    /// # Errors
    /// If there are more or fewer values. The old input then stays.
    pub fn set_pixels(&mut self, given: &[f32]) -> Result<(), RungEngineError> {
        let expected = match &self.buffers {
            Buffers::F32 { pixels, .. } => pixels.len(),
            Buffers::Int8 { frame, .. } => frame.len(),
            Buffers::Accelerator { pixels, .. } => *pixels,
        };
        if given.len() != expected {
            return Err(RungEngineError::Pixels { expected, found: given.len() });
        }
        match &mut self.buffers {
            Buffers::F32 { pixels, .. } => pixels.copy_from_slice(given),
            Buffers::Int8 { frame, input, .. } => write_frames(given, input, frame),
            Buffers::Accelerator { job, .. } => {
                job.pixels.clear();
                job.pixels.extend_from_slice(given);
            }
        }
        Ok(())
    }

    /// Takes an image of any size, preprocessed for the model.
    ///
    /// # Errors
    /// If it has no pixels, or the model's input is no RGB image. The old input then stays.
    #[cfg(feature = "images")]
    pub fn set_image(&mut self, image: &RgbImage) -> Result<(), PreprocessError> {
        let preprocessor = self.preprocessor.as_mut().map_err(|error| error.clone())?;
        match &mut self.buffers {
            Buffers::F32 { pixels, .. } => preprocessor.evaluation_into(image, pixels),
            Buffers::Accelerator { job, pixels } => {
                job.pixels.resize(*pixels, GREY);
                preprocessor.evaluation_into(image, &mut job.pixels)
            }
            Buffers::Int8 { frame, .. } => {
                frame.copy_from_slice(preprocessor.evaluation_frame(image)?.as_raw());
                Ok(())
            }
        }
    }

    pub(super) fn infer_f32(
        &mut self,
        vit: &ElasticVit,
        kept: &impl KeptStructures,
    ) -> Result<RungOutput<'_>, RungEngineError> {
        let Buffers::F32 { workspace, pixels } = &mut self.buffers else { return Err(RungEngineError::Workspace) };
        let output = vit.embed(workspace, pixels, 1, kept)?;
        Ok(RungOutput { embedding: output.pooled, logits: output.logits })
    }

    pub(super) fn infer_accelerated(
        &mut self,
        thread: &AcceleratorThread,
        pixels_of_engine: usize,
        rung: usize,
    ) -> Result<RungOutput<'_>, RungEngineError> {
        let Buffers::Accelerator { job, pixels } = &mut self.buffers else { return Err(RungEngineError::Workspace) };
        if *pixels != pixels_of_engine {
            return Err(RungEngineError::Workspace);
        }
        // Empty after a job was lost.
        job.pixels.resize(*pixels, GREY);
        thread.infer(job, rung)?;
        let AcceleratorOutput { embedding, logits } = &job.output;
        Ok(RungOutput { embedding, logits: (!logits.is_empty()).then_some(logits) })
    }

    pub(super) fn infer_int8(
        &mut self,
        vit: &PackedIntegerVit<'_>,
        kept: &impl KeptStructures,
    ) -> Result<RungOutput<'_>, RungEngineError> {
        let Buffers::Int8 { workspace, frame, embedding, logits, .. } = &mut self.buffers else {
            return Err(RungEngineError::Workspace);
        };
        let output = IntegerOutput { embedding: Some(embedding), logits: Some(logits), tokens: None };
        vit.infer(workspace, frame, kept, output)?;
        Ok(RungOutput { embedding, logits: (!logits.is_empty()).then_some(logits) })
    }
}
