//! Why a prune job failed, and what the user can do about it.

use std::io;
use std::path::PathBuf;

use candle_core::DType;
use headroom_device::engine::EngineError;
use headroom_device::integer::{ConvertError, IntegerEngineError};
use headroom_device::model::corrections::CorrectionsError;
use headroom_shared::sub_network::CountsError;
use headroom_shared::{IntegerModelError, ReplayError, StructureMapError};

use super::job::Remedy;
use crate::boards::UnknownBoard;
use crate::bundle::BundleWriteError;
use crate::calibration::CalibrationError;
use crate::checkpoint::{CheckpointError, PermutationError};
use crate::compensation::CompensationError;
use crate::embedder::EmbedError;
use crate::executor::{ChosenDevices, DeviceError, ExecutorError};
use crate::head_basis::HeadBasisError;
use crate::importance::ImportanceError;
use crate::ranking::RankingError;
use crate::scores::ScoresError;
use crate::search::{FitError, FitnessError, StrategyError};
use crate::sensitivity::SensitivityError;
use crate::shape::ModelShapeError;

/// How errors call the processor.
const ON_CPU: &str = "the CPU";

/// Why a prune job failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    #[error("there is no such board")]
    Board(#[from] UnknownBoard),
    #[error("the model cannot be used")]
    Checkpoint(#[from] CheckpointError),
    #[error("the published scores cannot be used")]
    Scores(#[from] ScoresError),
    #[error("the permuted weights cannot be written")]
    Weights(#[source] CheckpointError),
    #[error("the model cannot be made elastic")]
    Shape(#[from] ModelShapeError),
    #[error("the calibration images cannot be used")]
    Images(#[from] CalibrationError),
    #[error("the device cannot be used")]
    Device(#[from] DeviceError),
    #[error("the model cannot be run for gradients")]
    Executor(#[from] ExecutorError),
    #[error("importance cannot be computed")]
    Importance(#[from] ImportanceError),
    #[error("the importance of structures cannot be computed")]
    Sensitivity(#[from] SensitivityError),
    #[error("the heads cannot be put into another basis")]
    HeadBasis(#[from] HeadBasisError),
    #[error("the structures cannot be ranked")]
    Ranking(#[from] RankingError),
    #[error("the search cannot go on")]
    Search(#[from] FitError<EmbedError>),
    #[error("the search cannot start")]
    Strategy(#[from] StrategyError),
    #[error("the weights cannot be permuted")]
    Permutation(#[from] PermutationError),
    #[error("what pruning removes cannot be made up for")]
    Compensation(#[from] CompensationError),
    #[error("the corrections cannot be written")]
    Corrections(#[from] CorrectionsError),
    #[error("the model cannot be run")]
    Engine(#[from] EngineError),
    #[error("the images cannot be embedded")]
    Embed(#[from] EmbedError),
    #[error("the model cannot be run in int8")]
    Convert(#[from] ConvertError),
    #[error("`{board}` computes in int8 alone")]
    OnlyIntegers { board: &'static str },
    #[error("no rung fits the board: the smallest needs {needed} bytes of {part}, there are {limit}")]
    DoesNotFit { part: &'static str, needed: u64, limit: u64 },
    #[error("the flash image cannot be made")]
    FlashImage(#[from] headroom_shared::FlashImageError),
    #[error("the integer model cannot be written")]
    IntegerModel(#[from] IntegerModelError),
    #[error("the integer model cannot be run")]
    IntegerEngine(#[from] IntegerEngineError),
    #[error("the ranking does not fit the model")]
    Replay(#[from] ReplayError),
    #[error("the smallest sub-network does not fit the model")]
    Counts(#[from] CountsError),
    #[error("the structure map cannot be made")]
    StructureMap(#[from] StructureMapError),
    #[error("the description of the model cannot be written")]
    Description(#[source] serde_json::Error),
    #[error("the chart cannot be drawn")]
    Chart(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the bundle cannot be written")]
    Bundle(#[from] BundleWriteError),
    #[error("cannot use the folder `{}`", folder.display())]
    State { folder: PathBuf, source: io::Error },
    #[error("an unfinished job is kept in `{}`", folder.display())]
    Unfinished { folder: PathBuf },
    #[error("there is no unfinished job to resume in `{}`", folder.display())]
    NothingToResume { folder: PathBuf },
    #[error("a ladder holds at most {most} rungs, --rung-macs lists {found}")]
    TooManyRungs { most: usize, found: usize },
    #[error("--attention-units dimensions is of --method headroom: nothing else scores dimensions")]
    DimensionsWithoutScores,
    #[error("--fisher is of --method snapvit, not of --method headroom")]
    FisherWithoutSnapvit,
    #[error("tokens of a model with rotary positions cannot be merged: a merged token has no position")]
    TokensWithRotary,
    #[error("{stage} needs {} on the GPU, which has {} free", megabytes(*needed), megabytes(*free))]
    DeviceMemory { stage: &'static str, needed: u64, free: u64, remedy: Remedy },
    /// The stage and the device add what the cause does not know.
    #[error("the stage `{stage}` on {device} gave values that are not finite")]
    NotFinite { stage: &'static str, device: &'static str, half: bool, source: Box<PruneError> },
    #[error("interrupted before there was anything to write")]
    Interrupted,
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

impl PruneError {
    /// Whether the user stopped the job.
    #[must_use]
    pub fn is_interruption(&self) -> bool {
        matches!(
            self,
            Self::Interrupted
                | Self::HeadBasis(HeadBasisError::Interrupted { .. })
                | Self::Importance(ImportanceError::Interrupted { .. })
                | Self::Sensitivity(SensitivityError::Interrupted { .. })
                | Self::Compensation(CompensationError::Interrupted { .. })
        )
    }

    /// Whether values that are not finite are the cause.
    fn is_not_finite(&self) -> bool {
        matches!(
            self,
            Self::HeadBasis(HeadBasisError::NotFinite { .. })
                | Self::Importance(ImportanceError::NotFinite { .. })
                | Self::Sensitivity(SensitivityError::NotFinite { .. })
                | Self::Compensation(CompensationError::Singular { .. })
                | Self::Embed(EmbedError::NotFinite { .. })
                | Self::Search(
                    FitError::Embedder(EmbedError::NotFinite { .. })
                        | FitError::Fitness(FitnessError::NotFinite { .. })
                )
        )
    }

    /// Whether the device is the cause: it failed, has no room, or gave what is not finite.
    pub(super) fn is_of_device(&self) -> bool {
        matches!(
            self,
            Self::DeviceMemory { .. }
                | Self::NotFinite { .. }
                | Self::Executor(ExecutorError::Tensor(_))
                | Self::Embed(EmbedError::Executor(ExecutorError::Tensor(_)) | EmbedError::Thread)
                | Self::Search(
                    FitError::Embedder(EmbedError::Executor(ExecutorError::Tensor(_)) | EmbedError::Thread,)
                )
                | Self::Compensation(CompensationError::Executor(ExecutorError::Tensor(_)))
        )
    }

    /// With stage and device, where values that are not finite are the cause.
    pub(super) fn in_stage(self, stage: &'static str, devices: &ChosenDevices) -> Self {
        if !self.is_not_finite() {
            return self;
        }
        let device = if devices.gpus.is_empty() { ON_CPU } else { "the GPU" };
        let half = devices.dtype() != DType::F32;
        Self::NotFinite { stage, device, half, source: Box::new(self) }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bundle(error) => error.hint(),
            Self::Checkpoint(error) => error.hint(),
            Self::Device(error) => Some(error.hint()),
            Self::DeviceMemory { remedy, .. } => {
                let helps = match remedy {
                    Remedy::Batch => "lower --batch",
                    Remedy::ImagesLimit => "lower --images-limit",
                    Remedy::ImageSize => "take a smaller --image-size or a smaller model",
                };
                Some(format!("{helps}, or compute with `--device cpu`"))
            }
            Self::NotFinite { half: true, .. } => {
                Some("`--gpu-precision f32` computes with the range and the digits of f32".into())
            }
            Self::NotFinite { device, .. } if *device != ON_CPU => Some(
                "`--device cpu` computes the same in f32 on the processor, and tells whether the GPU is at fault"
                    .into(),
            ),
            Self::NotFinite { .. } => {
                Some("the weights or the images are too large for f32: does the original model run on them?".into())
            }
            Self::Weights(_) => {
                Some("make room for the bundle and go on with --resume: what was computed is kept".into())
            }
            Self::Scores(ScoresError::OtherModel { .. }) => {
                Some("take the scores of this very model, or leave --scores away to compute them".into())
            }
            Self::TokensWithRotary => Some("leave --tokens away".into()),
            Self::OnlyIntegers { .. } => Some("leave --precision away".into()),
            Self::DoesNotFit { .. } => {
                Some("take a board with more memory, a smaller model, or lower --min-heads and --min-neurons".into())
            }
            Self::Convert(ConvertError::Part { .. }) => Some("leave --precision int8 away for this model".into()),
            Self::Unfinished { .. } => Some("go on with --resume, or start anew with --force".into()),
            Self::NothingToResume { .. } => Some("start the job without --resume".into()),
            Self::Search(FitError::Checkpoint(_)) => {
                Some("resume with the options of the interrupted job, or start anew with --force".into())
            }
            Self::Images(_) => Some("give a folder with JPEG, PNG or WebP images, or leave --images away".into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::GpuPrecision;

    #[test]
    fn what_is_not_finite_names_stage_and_device_and_offers_f32() {
        let cpu = ChosenDevices::cpu();
        let on =
            |devices: &ChosenDevices| PruneError::from(EmbedError::NotFinite { image: 3 }).in_stage("ladder", devices);
        let gpu = ChosenDevices { gpus: vec![0], precision: GpuPrecision::F16, ..cpu.clone() };
        let error = on(&gpu);
        assert_eq!(error.to_string(), "the stage `ladder` on the GPU gave values that are not finite");
        assert!(error.hint().unwrap().contains("--gpu-precision f32") && error.is_of_device());
        assert!(on(&gpu.in_precision(GpuPrecision::F32)).hint().unwrap().contains("--device cpu"));
        let error = on(&cpu);
        assert_eq!(error.to_string(), "the stage `ladder` on the CPU gave values that are not finite");
        assert!(error.hint().unwrap().contains("too large for f32"));
    }
}
