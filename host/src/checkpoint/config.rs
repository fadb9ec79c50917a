//! The hubs' configs, as far as a vision tower depends on them. Unknown keys
//! are ignored, missing ones are `None`: which default then holds is the
//! family's business.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One number for a square, or height and width.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Size {
    Square(usize),
    HeightWidth(usize, usize),
}

impl Size {
    pub(super) fn height_width(self) -> (usize, usize) {
        match self {
            Self::Square(side) => (side, side),
            Self::HeightWidth(height, width) => (height, width),
        }
    }
}

/// timm's hub config: <https://huggingface.co/docs/timm/hparams> names the architecture;
/// `model_args` holds what differs from that architecture's defaults.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct TimmConfig {
    pub(super) architecture: Option<String>,
    pub(super) num_classes: Option<usize>,
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
    pub(super) patch_size: Option<usize>,
    pub(super) embed_dim: Option<usize>,
    pub(super) depth: Option<usize>,
    pub(super) num_heads: Option<usize>,
    pub(super) num_classes: Option<usize>,
    pub(super) global_pool: Option<String>,
    pub(super) act_layer: Option<String>,
    pub(super) rope_temperature: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct TimmPretrained {
    /// Channels, height, width.
    pub(super) input_size: Option<(usize, usize, usize)>,
    pub(super) interpolation: Option<String>,
    pub(super) crop_pct: Option<f32>,
    pub(super) mean: Option<[f32; 3]>,
    pub(super) std: Option<[f32; 3]>,
    pub(super) label_names: Option<Vec<String>>,
}

/// transformers' `config.json` of a vision model.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct TransformersConfig {
    pub(super) model_type: Option<String>,
    pub(super) hidden_size: Option<usize>,
    pub(super) num_hidden_layers: Option<usize>,
    pub(super) num_attention_heads: Option<usize>,
    pub(super) intermediate_size: Option<usize>,
    pub(super) hidden_act: Option<String>,
    pub(super) layer_norm_eps: Option<f64>,
    pub(super) image_size: Option<Size>,
    pub(super) patch_size: Option<usize>,
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
    Square(usize),
    Exact { height: usize, width: usize },
    ShortestEdge { shortest_edge: usize },
}
