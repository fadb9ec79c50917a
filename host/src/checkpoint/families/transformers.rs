//! What transformers' namings share: the config with the defaults of its
//! class, and the preprocessing beside it.

use headroom_device::model::description::{
    Activation, CropMode, ImageInput, Interpolation, Position, PositionResampling,
};

use super::Evidence;
use super::parts::Parts;
use crate::checkpoint::config::{PreprocessorConfig, PreprocessorSize, Size, TransformersConfig};
use crate::checkpoint::error::CheckpointError;

/// What holds where the config is silent: the defaults of transformers' config class, and the preprocessing that the
/// family's published checkpoints have.
pub(super) struct Defaults {
    pub(super) heads: usize,
    pub(super) activation: Activation,
    pub(super) eps: f64,
    /// Side of the input, pixels.
    pub(super) image_size: usize,
    pub(super) mean_and_std: ([f32; 3], [f32; 3]),
    pub(super) interpolation: Interpolation,
    pub(super) crop_fraction: f32,
    /// What the family's image processor does with one number for a size, too.
    pub(super) crop_mode: CropMode,
}

/// A config of transformers; of a two-tower checkpoint its vision part.
pub(super) struct Transformers {
    pub(super) config: TransformersConfig,
    has_config: bool,
    preprocessor: PreprocessorConfig,
    defaults: Defaults,
}

impl Transformers {
    /// # Errors
    /// If a config cannot be read.
    pub(super) fn read(evidence: &Evidence<'_>, defaults: Defaults) -> Result<Self, CheckpointError> {
        let mut config: TransformersConfig =
            evidence.config.map_or(Ok(TransformersConfig::default()), |document| document.parse())?;
        if let Some(vision) = config.vision_config.take() {
            config = *vision;
        }
        let preprocessor =
            evidence.preprocessor.map_or(Ok(PreprocessorConfig::default()), |document| document.parse())?;
        Ok(Self { config, has_config: evidence.config.is_some(), preprocessor, defaults })
    }

    pub(super) fn model_type(&self) -> &str {
        self.config.model_type.as_deref().unwrap_or("without model_type")
    }

    pub(super) fn eps(&self) -> f64 {
        self.config.layer_norm_eps.unwrap_or(self.defaults.eps)
    }

    /// `--heads`, then the config, then (for a config that leaves out what is default) the class's default.
    ///
    /// # Errors
    /// If there is no config.
    pub(super) fn heads(
        &self,
        evidence: &Evidence<'_>,
        family: &str,
        embed_dim: usize,
    ) -> Result<usize, CheckpointError> {
        let stated = evidence.options.heads.or(self.config.num_attention_heads.map(usize::from));
        stated
            .or_else(|| self.has_config.then_some(self.defaults.heads))
            .ok_or_else(|| CheckpointError::UnknownHeads { seen: format!("{family} without config.json"), embed_dim })
    }

    /// # Errors
    /// If the config names an activation that no executor has.
    pub(super) fn activation(&self) -> Result<Activation, CheckpointError> {
        match self.config.hidden_act.as_deref() {
            None => Ok(self.defaults.activation),
            Some("gelu") => Ok(Activation::Gelu),
            Some("gelu_pytorch_tanh" | "gelu_new" | "gelu_fast") => Ok(Activation::GeluTanh),
            Some("quick_gelu") => Ok(Activation::QuickGelu),
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some(other) => Err(CheckpointError::ConfigValue {
                key: "hidden_act",
                expected: "gelu, gelu_pytorch_tanh, quick_gelu or silu".to_owned(),
                found: other.to_owned(),
            }),
        }
    }

    /// The width of tokens: the config's, else that of the patch convolution `weight`.
    ///
    /// # Errors
    /// If the tensor is missing.
    pub(super) fn embed_dim(&self, parts: &Parts<'_>, weight: &str) -> Result<usize, CheckpointError> {
        let found = parts.size(weight, 0)?;
        Ok(self.config.hidden_size.map_or(found, usize::from))
    }

    pub(super) fn depth(&self, parts: &Parts<'_>, stem: &str) -> usize {
        self.config.num_hidden_layers.map_or_else(|| parts.count_blocks(stem), usize::from)
    }

    /// Hidden neurons: the config's, else the width of block 0's second MLP matrix `weight`.
    ///
    /// # Errors
    /// If the tensor is missing.
    pub(super) fn neurons(&self, parts: &Parts<'_>, weight: &str) -> Result<usize, CheckpointError> {
        let found = parts.size(weight, 1)?;
        Ok(self.config.intermediate_size.map_or(found, usize::from))
    }

    /// Height and width that the model was trained for.
    fn trained_size(&self) -> (usize, usize) {
        self.config.image_size.map_or((self.defaults.image_size, self.defaults.image_size), Size::height_width)
    }

    /// Learned positions of the first `prefix_positions` prefix tokens and of the patches.
    pub(super) fn learned_position(
        &self,
        parts: &Parts<'_>,
        name: &str,
        prefix_positions: usize,
        patch: usize,
        resampling: PositionResampling,
    ) -> Position {
        let (height, width) = self.trained_size();
        let grid = (height / patch, width / patch);
        Position::Learned { tensor: parts.tensor(name), prefix_positions, grid, resampling }
    }

    /// The input that the model expects: `preprocessor_config.json`, else the trained size and the family's
    /// published preprocessing.
    ///
    /// # Errors
    /// If the patch convolution is missing or disagrees with the config, or the filter is unknown.
    pub(super) fn image(&self, parts: &Parts<'_>, weight: &str) -> Result<ImageInput, CheckpointError> {
        let found = parts.size(weight, 3)?;
        let patch = self.config.patch_size.map_or(found, usize::from).max(1);
        let preprocessor = &self.preprocessor;
        let (mut height, mut width) = self.trained_size();
        let Defaults { mut crop_fraction, mut crop_mode, .. } = self.defaults;
        if let Some(size) = preprocessor.size {
            let crop = preprocessor.crop_size.filter(|_| preprocessor.do_center_crop.unwrap_or(true));
            (height, width) = crop.unwrap_or(size).height_width();
            let (resized_height, resized_width) = size.height_width();
            crop_fraction = height.min(width) as f32 / resized_height.min(resized_width).max(1) as f32;
            crop_mode = match size {
                PreprocessorSize::Square(_) => crop_mode,
                PreprocessorSize::Exact { .. } => CropMode::Squash,
                PreprocessorSize::ShortestEdge { .. } => CropMode::Center,
            };
        }
        let interpolation = match preprocessor.resample {
            None => self.defaults.interpolation,
            Some(0) => Interpolation::Nearest,
            Some(1) => Interpolation::Lanczos,
            Some(2) => Interpolation::Bilinear,
            Some(3) => Interpolation::Bicubic,
            Some(other) => {
                return Err(CheckpointError::ConfigValue {
                    key: "resample",
                    expected: "0 (nearest), 1 (Lanczos), 2 (bilinear) or 3 (bicubic)".to_owned(),
                    found: other.to_string(),
                });
            }
        };
        Ok(ImageInput {
            height,
            width,
            channels: parts.size(weight, 1)?,
            patch,
            mean: preprocessor.image_mean.unwrap_or(self.defaults.mean_and_std.0),
            std: preprocessor.image_std.unwrap_or(self.defaults.mean_and_std.1),
            interpolation,
            crop_fraction,
            crop_mode,
        })
    }

    /// Classes of the config, where it lists them.
    pub(super) fn classes(&self) -> Option<usize> {
        self.config.id2label.as_ref().map(|labels| labels.len())
    }

    /// The names of the classes, unless they are the `LABEL_0`, `LABEL_1` ... that transformers writes for want of names.
    pub(super) fn labels(&self) -> Option<Vec<String>> {
        let id2label = self.config.id2label.as_ref()?;
        if id2label.iter().all(|(id, label)| *label == format!("LABEL_{id}")) {
            return None;
        }
        (0..id2label.len()).map(|id| id2label.get(&id.to_string()).cloned()).collect()
    }
}

impl PreprocessorSize {
    fn height_width(self) -> (usize, usize) {
        match self {
            Self::Square(side) | Self::ShortestEdge { shortest_edge: side } => (side.into(), side.into()),
            Self::Exact { height, width } => (height.into(), width.into()),
        }
    }
}
