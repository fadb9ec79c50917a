//! What timm's namings share: the hub config, and what follows from the
//! architecture's name where the config is silent.

use headroom_device::model::description::{Activation, CropMode, ImageInput, Interpolation};

use super::parts::Parts;
use super::timm_architectures::{self, Architecture};
use super::{Evidence, IMAGENET, unsupported};
use crate::checkpoint::config::{Size, TimmConfig};
use crate::checkpoint::error::CheckpointError;

/// The head width of every published DINO v1 model (ViT-S: 384/6, ViT-B: 768/12):
/// <https://github.com/facebookresearch/dino/blob/main/vision_transformer.py>. Its files have no config.
const DINO_HEAD_DIM: usize = 64;

/// A timm config and the entry of its architecture.
pub(super) struct Timm {
    config: TimmConfig,
    architecture: Option<Architecture>,
    pub(super) family: String,
    pub(super) notes: Vec<String>,
}

impl Timm {
    /// # Errors
    /// If the config cannot be read or names an architecture that computes otherwise than its tensor names say.
    pub(super) fn read(evidence: &Evidence<'_>) -> Result<Self, CheckpointError> {
        let Some(document) = evidence.config else {
            let mut notes = Vec::new();
            if evidence.options.heads.is_none() {
                notes.push(format!(
                    "no config.json: taken as DINO v1 from torch hub, whose heads are {DINO_HEAD_DIM} wide"
                ));
            }
            let family = "DINO v1 (torch hub)".to_owned();
            return Ok(Self { config: TimmConfig::default(), architecture: None, family, notes });
        };
        let config: TimmConfig = document.parse()?;
        let name = config.architecture.clone().unwrap_or_default();
        if name.split('_').any(|word| word == "rpn") {
            return Err(unsupported(
                format!("timm architecture `{name}`"),
                "its blocks normalise after the branch, under the names of blocks that normalise before it",
            ));
        }
        let architecture = timm_architectures::find(&name);
        let known_for = timm_architectures::family(&name);
        let mut notes = Vec::new();
        if architecture.is_none() {
            notes.push(format!("the architecture `{name}` is not in the table of timm's names: GELU is assumed"));
        }
        Ok(Self { config, architecture, family: format!("timm {known_for} ({name})"), notes })
    }

    pub(super) fn architecture_name(&self) -> &str {
        self.config.architecture.as_deref().unwrap_or_default()
    }

    pub(super) fn patch(&self, parts: &Parts<'_>) -> Result<usize, CheckpointError> {
        let found = parts.size("patch_embed.proj.weight", 3)?;
        Ok(self.config.model_args.patch_size.map_or(found, usize::from).max(1))
    }

    pub(super) fn embed_dim(&self, parts: &Parts<'_>) -> Result<usize, CheckpointError> {
        let found = parts.size("patch_embed.proj.weight", 0)?;
        Ok(self.config.model_args.embed_dim.map_or(found, usize::from))
    }

    pub(super) fn depth(&self, parts: &Parts<'_>) -> usize {
        self.config.model_args.depth.map_or_else(|| parts.count_blocks("blocks"), usize::from)
    }

    /// `--heads`, then the config, then the architecture's table entry, then DINO's rule for files without config.
    pub(super) fn heads(&self, evidence: &Evidence<'_>, embed_dim: usize) -> Result<usize, CheckpointError> {
        let stated = evidence.options.heads.or(self.config.model_args.num_heads.map(usize::from));
        let of_architecture =
            || self.architecture.filter(|entry| entry.embed_dim == embed_dim).map(|entry| entry.heads);
        let of_dino = || {
            (evidence.config.is_none() && embed_dim.is_multiple_of(DINO_HEAD_DIM)).then_some(embed_dim / DINO_HEAD_DIM)
        };
        stated
            .or_else(of_architecture)
            .or_else(of_dino)
            .ok_or_else(|| CheckpointError::UnknownHeads { seen: self.family.clone(), embed_dim })
    }

    /// # Errors
    /// If the config names an activation that no executor has.
    pub(super) fn activation(&self) -> Result<Activation, CheckpointError> {
        match self.config.model_args.act_layer.as_deref() {
            None => Ok(self.architecture.map_or(Activation::Gelu, |entry| entry.activation)),
            Some("gelu") => Ok(Activation::Gelu),
            Some("gelu_tanh") => Ok(Activation::GeluTanh),
            Some("quick_gelu") => Ok(Activation::QuickGelu),
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some(other) => Err(CheckpointError::ConfigValue {
                key: "act_layer",
                expected: "gelu, gelu_tanh, quick_gelu or silu".to_owned(),
                found: other.to_owned(),
            }),
        }
    }

    pub(super) fn eps(&self) -> f64 {
        self.architecture.map_or(1e-6, |entry| entry.eps)
    }

    /// timm's word for the pooling.
    pub(super) fn pooling(&self) -> &str {
        let args = &self.config.model_args;
        args.global_pool.as_deref().or(self.config.global_pool.as_deref()).unwrap_or("token")
    }

    pub(super) fn rope_theta(&self) -> f64 {
        self.config.model_args.rope_temperature.unwrap_or(100.0)
    }

    pub(super) fn classes(&self) -> Option<usize> {
        self.config.model_args.num_classes.or(self.config.num_classes).map(usize::from)
    }

    pub(super) fn labels(&self) -> Option<Vec<String>> {
        self.config.label_names.clone().or_else(|| self.config.pretrained_cfg.label_names.clone())
    }

    /// Height and width in the config.
    pub(super) fn stated_size(&self) -> Option<(usize, usize)> {
        let of_pretraining =
            || self.config.pretrained_cfg.input_size.map(|(_, height, width)| (height.into(), width.into()));
        self.config.model_args.img_size.map(Size::height_width).or_else(of_pretraining)
    }

    /// Height and width that the stored positions are for: the config's, or the square that fits their number.
    ///
    /// # Errors
    /// If there is no config and no square fits.
    pub(super) fn trained_size(
        &self,
        parts: &Parts<'_>,
        patch: usize,
        prefix: usize,
    ) -> Result<(usize, usize), CheckpointError> {
        if let Some(size) = self.stated_size() {
            return Ok(size);
        }
        let positions = parts.values("pos_embed")? / parts.size("patch_embed.proj.weight", 0)?.max(1);
        let side = [0, prefix]
            .iter()
            .filter_map(|without| positions.checked_sub(*without))
            .find_map(|patches| Some(patches.isqrt()).filter(|side| side * side == patches));
        match side {
            Some(side) => Ok((side * patch, side * patch)),
            None => Err(unsupported(
                format!("{positions} positions without a config.json, which are no square grid"),
                "put a config.json with img_size beside the weights",
            )),
        }
    }

    /// The input that the model expects, from `pretrained_cfg`; what it leaves out is timm's default
    /// (`timm/data/config.py`: ImageNet statistics, bicubic, crop 0.875).
    ///
    /// # Errors
    /// If the config names an interpolation or a crop mode that is not known.
    pub(super) fn image(
        &self,
        (height, width): (usize, usize),
        patch: usize,
        channels: usize,
    ) -> Result<ImageInput, CheckpointError> {
        let pretrained = &self.config.pretrained_cfg;
        let interpolation = match pretrained.interpolation.as_deref() {
            None | Some("bicubic" | "random" | "") => Interpolation::Bicubic,
            Some("bilinear") => Interpolation::Bilinear,
            Some("nearest") => Interpolation::Nearest,
            Some("lanczos") => Interpolation::Lanczos,
            Some(other) => {
                return Err(CheckpointError::ConfigValue {
                    key: "interpolation",
                    expected: "bicubic, bilinear, nearest or lanczos".to_owned(),
                    found: other.to_owned(),
                });
            }
        };
        Ok(ImageInput {
            height,
            width,
            channels,
            patch,
            mean: pretrained.mean.unwrap_or(IMAGENET.0),
            std: pretrained.std.unwrap_or(IMAGENET.1),
            interpolation,
            crop_fraction: pretrained.crop_pct.unwrap_or(0.875),
            crop_mode: match pretrained.crop_mode.as_deref() {
                None | Some("center") => CropMode::Center,
                Some("squash") => CropMode::Squash,
                Some(other) => {
                    return Err(CheckpointError::ConfigValue {
                        key: "crop_mode",
                        expected: "center or squash".to_owned(),
                        found: other.to_owned(),
                    });
                }
            },
        })
    }
}
