//! The hubs' configs, as far as a vision tower depends on them. Unknown keys
//! are ignored, missing ones are `None`: which default then holds is the
//! family's business. No size of a supported model exceeds sixteen bits, so
//! that arithmetic on what a config claims cannot overflow.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One number for a square, or height and width.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Size {
    Square(u16),
    HeightWidth(u16, u16),
}

impl Size {
    pub(super) fn height_width(self) -> (usize, usize) {
        match self {
            Self::Square(side) => (side.into(), side.into()),
            Self::HeightWidth(height, width) => (height.into(), width.into()),
        }
    }
}

/// timm's hub config: <https://huggingface.co/docs/timm/hparams> names the architecture;
/// `model_args` holds what differs from that architecture's defaults.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct TimmConfig {
    pub(super) architecture: Option<String>,
    pub(super) num_classes: Option<u16>,
    pub(super) global_pool: Option<String>,
    #[serde(default)]
    pub(super) model_args: TimmModelArgs,
    #[serde(default)]
    pub(super) pretrained_cfg: TimmPretrained,
    pub(super) label_names: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct TimmModelArgs {
    pub(super) img_size: Option<Size>,
    pub(super) patch_size: Option<u16>,
    pub(super) embed_dim: Option<u16>,
    pub(super) depth: Option<u16>,
    pub(super) num_heads: Option<u16>,
    pub(super) num_classes: Option<u16>,
    pub(super) global_pool: Option<String>,
    pub(super) act_layer: Option<String>,
    pub(super) rope_temperature: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct TimmPretrained {
    /// Channels, height, width.
    pub(super) input_size: Option<(u16, u16, u16)>,
    pub(super) interpolation: Option<String>,
    pub(super) crop_pct: Option<f32>,
    pub(super) crop_mode: Option<String>,
    pub(super) mean: Option<[f32; 3]>,
    pub(super) std: Option<[f32; 3]>,
    pub(super) label_names: Option<Vec<String>>,
}

/// transformers' `config.json` of a vision model.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct TransformersConfig {
    pub(super) model_type: Option<String>,
    pub(super) hidden_size: Option<u16>,
    pub(super) num_hidden_layers: Option<u16>,
    pub(super) num_attention_heads: Option<u16>,
    pub(super) intermediate_size: Option<u16>,
    pub(super) hidden_act: Option<String>,
    pub(super) layer_norm_eps: Option<f64>,
    pub(super) image_size: Option<Size>,
    pub(super) patch_size: Option<u16>,
    pub(super) pooler_act: Option<String>,
    pub(super) rope_theta: Option<f64>,
    pub(super) rope_parameters: Option<RopeParameters>,
    pub(super) id2label: Option<BTreeMap<String, String>>,
    /// The vision tower's config in a two-tower checkpoint.
    pub(super) vision_config: Option<Box<TransformersConfig>>,
}

/// Where newer transformers keep the rotary base.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct RopeParameters {
    pub(super) rope_theta: Option<f64>,
}

/// transformers' `preprocessor_config.json`.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct PreprocessorConfig {
    pub(super) do_center_crop: Option<bool>,
    pub(super) size: Option<PreprocessorSize>,
    pub(super) crop_size: Option<PreprocessorSize>,
    /// PIL's number of the filter.
    pub(super) resample: Option<u8>,
    pub(super) image_mean: Option<[f32; 3]>,
    pub(super) image_std: Option<[f32; 3]>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum PreprocessorSize {
    Square(u16),
    Exact { height: u16, width: u16 },
    ShortestEdge { shortest_edge: u16 },
}
