//! What is checked: the CPU engine, or the GPU engine.

use std::time::Instant;

use headroom_device::engine::{Corrected, ElasticVit, Workspace};
use headroom_device::model::{Corrections, Description, Weights};
use headroom_shared::{SubNetwork, TimeSpan};

use super::CheckError;
use super::comparison::{self, Measure, Outputs};
use super::report::CheckedDevice;

/// A model with the rungs that it runs at.
pub(super) struct Model<'a> {
    pub description: &'a Description,
    pub weights: &'a Weights,
    pub corrections: &'a Corrections,
    /// The CPU engine with the same weights.
    pub engine: &'a ElasticVit,
    pub rungs: &'a [Corrected<'a, SubNetwork>],
}

/// The device's engine on the CPU or on a GPU.
pub(super) enum Subject<'a> {
    Cpu(Box<Cpu<'a>>),
    #[cfg(feature = "cuda")]
    Cuda(Box<headroom_device::cuda::CudaVit>, usize),
}

/// The CPU engine on some threads.
pub(super) struct Cpu<'a> {
    engine: &'a ElasticVit,
    rungs: &'a [Corrected<'a, SubNetwork>],
    workspace: Workspace,
}

impl<'a> Cpu<'a> {
    pub(super) fn new(model: &Model<'a>, threads: usize) -> Self {
        let Model { engine, rungs, .. } = *model;
        Self { engine, rungs, workspace: engine.workspace_with_threads(1, threads) }
    }

    /// What it computes of one image, and how long that took.
    pub(super) fn run(&mut self, rung: usize, pixels: &[f32]) -> Result<(Outputs, TimeSpan), CheckError> {
        let start = Instant::now();
        let output = self.engine.embed(&mut self.workspace, pixels, 1, &self.rungs[rung])?;
        let time = start.elapsed().into();
        Ok((Outputs { pooled: output.pooled.to_vec(), logits: output.logits.map(<[f32]>::to_vec) }, time))
    }
}

impl<'a> Subject<'a> {
    /// The engine of GPU `gpu`, or of the CPU on all threads.
    pub(super) fn new(gpu: Option<usize>, model: &Model<'a>) -> Result<Self, CheckError> {
        match gpu {
            #[cfg(feature = "cuda")]
            Some(ordinal) => Self::on_gpu(ordinal, model),
            _ => Ok(Self::Cpu(Box::new(Cpu::new(model, super::threads())))),
        }
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(ordinal: usize, model: &Model<'a>) -> Result<Self, CheckError> {
        use headroom_device::cuda::{CudaError, CudaVit, weights::LaidOutWeights};

        let Model { description, weights, corrections, rungs, .. } = *model;
        let laid_out = LaidOutWeights::new(description, weights, corrections).map_err(CudaError::from)?;
        Ok(Self::Cuda(Box::new(CudaVit::new(ordinal, description, &laid_out, rungs)?), ordinal))
    }

    /// What the times are of.
    pub(super) fn device(&self, machine: &str) -> CheckedDevice {
        match self {
            Self::Cpu(cpu) => CheckedDevice {
                device: "cpu".into(),
                name: format!("{machine}, {} threads", cpu.workspace.threads()),
                driver: None,
                precision: "f32",
                clock: "the system's monotonic clock",
            },
            #[cfg(feature = "cuda")]
            Self::Cuda(vit, ordinal) => CheckedDevice {
                device: format!("cuda:{ordinal}"),
                name: vit.device().to_owned(),
                driver: Some(vit.driver().to_owned()),
                precision: "f16",
                clock: "events on the GPU",
            },
        }
    }

    /// How far what it computes may be from what the CPU engine computes on one thread: that has the same bits on any
    /// number of threads.
    pub(super) fn limit(&self) -> (Measure, f64) {
        match self {
            Self::Cpu(_) => (Measure::RelativeDifference, comparison::NOTHING),
            #[cfg(feature = "cuda")]
            Self::Cuda(..) => (Measure::CosineDistance, comparison::OF_F16),
        }
    }

    /// What the measure of the [limit](Self::limit) is of two results.
    pub(super) fn distance(&self) -> fn(&[f32], &[f32]) -> f64 {
        match self {
            Self::Cpu(_) => comparison::relative_difference,
            #[cfg(feature = "cuda")]
            Self::Cuda(..) => comparison::cosine_distance,
        }
    }

    /// What it computes, and how long that took: by the clock on the CPU, by events around the graph on a GPU.
    pub(super) fn run(&mut self, rung: usize, pixels: &[f32]) -> Result<(Outputs, TimeSpan), CheckError> {
        match self {
            Self::Cpu(cpu) => cpu.run(rung, pixels),
            #[cfg(feature = "cuda")]
            Self::Cuda(vit, _) => {
                let output = vit.infer(pixels, rung)?;
                let logits = (!output.logits.is_empty()).then_some(output.logits);
                Ok((Outputs { pooled: output.pooled, logits }, output.time))
            }
        }
    }
}
