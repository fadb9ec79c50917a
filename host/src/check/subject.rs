//! What is checked: the CPU engine, or the GPU engine.

use std::path::Path;
use std::time::Instant;

use headroom_device::bundle::Bundle;
use headroom_device::engine::Workspace;
use headroom_device::error_text::with_causes;
use headroom_device::run::DeviceChoice;
use headroom_device::switch::RungTable;
use headroom_shared::TimeSpan;

use super::CheckError;

/// An engine with all rungs of a bundle.
pub(super) enum Subject<'a> {
    Cpu(Box<Cpu<'a>>),
    #[cfg(feature = "device-cuda")]
    Cuda(Box<headroom_device::cuda::CudaVit>),
}

/// The CPU engine on some threads.
pub(super) struct Cpu<'a> {
    bundle: &'a Bundle,
    table: RungTable,
    workspace: Workspace,
}

impl<'a> Cpu<'a> {
    pub(super) fn new(bundle: &'a Bundle, threads: usize) -> Self {
        let table = RungTable::new(&bundle.structure_map());
        Self { bundle, table, workspace: bundle.vit().workspace_with_threads(1, threads) }
    }

    pub(super) fn run(&mut self, rung: usize, pixels: &[f32]) -> Result<(Vec<f32>, TimeSpan), CheckError> {
        let kept = self.bundle.corrected(rung, &self.table.sub_networks()[rung]);
        let start = Instant::now();
        let output = self.bundle.vit().embed(&mut self.workspace, pixels, 1, &kept)?;
        let time = start.elapsed().into();
        Ok((output.pooled.to_vec(), time))
    }
}

impl<'a> Subject<'a> {
    /// What `choice` means here. `auto` says why it takes the CPU.
    pub(super) fn new(choice: DeviceChoice, bundle: &'a Bundle, path: &Path) -> Result<Self, CheckError> {
        let on_gpu = match choice {
            DeviceChoice::Cpu => None,
            DeviceChoice::Auto => Some(Self::on_gpu(0, bundle, path)),
            DeviceChoice::Cuda(ordinal) => Some(Self::on_gpu(ordinal, bundle, path)),
        };
        match on_gpu {
            None => {}
            Some(Err(error)) if choice == DeviceChoice::Auto => {
                anstream::eprintln!("checking the CPU: {}", with_causes(&error));
            }
            Some(subject) => return subject,
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self::Cpu(Box::new(Cpu::new(bundle, threads))))
    }

    #[cfg(feature = "device-cuda")]
    fn on_gpu(ordinal: usize, bundle: &Bundle, path: &Path) -> Result<Self, CheckError> {
        use headroom_device::cuda::{CudaError, CudaVit, weights::LaidOutWeights};

        let (weights, corrections) =
            bundle.read_weights(path).map_err(|source| CheckError::Bundle { path: path.to_path_buf(), source })?;
        let laid_out = LaidOutWeights::new(bundle.description(), &weights, &corrections).map_err(CudaError::from)?;
        let table = RungTable::new(&bundle.structure_map());
        let rungs: Vec<_> =
            table.sub_networks().iter().enumerate().map(|(rung, kept)| bundle.corrected(rung, kept)).collect();
        Ok(Self::Cuda(Box::new(CudaVit::new(ordinal, bundle.description(), &laid_out, &rungs)?)))
    }

    #[cfg(not(feature = "device-cuda"))]
    fn on_gpu(_: usize, _: &Bundle, _: &Path) -> Result<Self, CheckError> {
        Err(CheckError::NoCuda)
    }

    /// What the times are of.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Cpu(cpu) => format!("CPU, {} threads, f32", cpu.workspace.threads()),
            #[cfg(feature = "device-cuda")]
            Self::Cuda(vit) => format!("{}, f16", vit.device()),
        }
    }

    /// The cosine to the reference from which on an embedding agrees. The CPU engine has the same bits on any number of
    /// threads; f16 keeps three digits of each number, and their errors do not add up in one direction.
    pub(super) fn lowest_cosine(&self) -> f64 {
        match self {
            Self::Cpu(_) => 1.0,
            #[cfg(feature = "device-cuda")]
            Self::Cuda(_) => 0.999,
        }
    }

    /// The embedding, and how long it took: by the clock on the CPU, by events around the graph on a GPU.
    pub(super) fn run(&mut self, rung: usize, pixels: &[f32]) -> Result<(Vec<f32>, TimeSpan), CheckError> {
        match self {
            Self::Cpu(cpu) => cpu.run(rung, pixels),
            #[cfg(feature = "device-cuda")]
            Self::Cuda(vit) => {
                let output = vit.infer(pixels, rung)?;
                Ok((output.pooled, output.time))
            }
        }
    }
}
