//! A model as data: sizes plus a short list of parts.
//!
//! Every executor reads this description and nothing else: the CPU engine of
//! this crate and the candle executor of the host. A model family fills it by
//! mapping the names of its checkpoint to parts, so that supporting another
//! family touches no executor. The host stores it in the bundle as JSON,
//! because the permuted weights keep their original names.
//!
//! Conventions: every linear weight is `[out, in]`, `y = x W^T + b`. LayerNorm
//! uses the biased variance. A head is `head_dim` consecutive rows of query,
//! key and value, and the same columns of the projection. Attention scales by
//! `head_dim^-0.5`. A layer scale multiplies a branch before it is added.

use serde::{Deserialize, Serialize};

/// A tensor of the checkpoint, or consecutive rows (entries of the leading
/// dimension) of it, as fused query-key-value weights need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorRef {
    /// The name in the checkpoint.
    pub name: String,
    /// First row and number of rows; `None` is the whole tensor.
    pub rows: Option<(usize, usize)>,
}

/// `y = x W^T + b`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// `[out, in]`; a convolution over patches is flattened to it.
    pub weight: TensorRef,
    /// `[out]`.
    pub bias: Option<TensorRef>,
}

/// LayerNorm over the token width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    /// `[embed_dim]`.
    pub weight: TensorRef,
    /// `[embed_dim]`.
    pub bias: TensorRef,
    /// Added to the variance.
    pub eps: f64,
}

/// The nonlinearity of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `x Phi(x)` with the error function.
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// `x sigmoid(1.702 x)`.
    QuickGelu,
    /// `x sigmoid(x)`.
    Silu,
}

/// The MLP of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Mlp {
    /// `down(act(up(x)))`.
    Plain { up: Linear, down: Linear },
    /// `down(act(gate(x)) * up(x))`.
    Gated { gate: Linear, up: Linear, down: Linear },
}

/// One pre-norm transformer block:
/// `x += s1 * proj(attention(norm1(x)))`, then `x += s2 * mlp(norm2(x))`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    pub norm1: LayerNorm,
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub projection: Linear,
    /// `[embed_dim]`, multiplies the attention branch.
    pub layer_scale1: Option<TensorRef>,
    pub norm2: LayerNorm,
    pub mlp: Mlp,
    /// `[embed_dim]`, multiplies the MLP branch.
    pub layer_scale2: Option<TensorRef>,
}

/// What a prefix token is for. Registers are never pooled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrefixKind {
    Class,
    Distillation,
    Registers,
}

/// Learned tokens before the patch tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrefixTokens {
    pub kind: PrefixKind,
    /// Any shape that flattens to `[count, embed_dim]`.
    pub tensor: TensorRef,
    pub count: usize,
}

/// How a learned grid of positions is resampled to another input size. Both
/// are bicubic with half-pixel centres (`align_corners = false`), straight to
/// the new height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionResampling {
    /// Cubic a = -0.75, four taps (`torch.nn.functional.interpolate`).
    Bicubic,
    /// Cubic a = -0.5, the kernel widened when shrinking (antialias).
    BicubicAntialias,
}

/// How tokens know where they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Position {
    /// Added once, before block 0.
    Learned {
        /// Flattens to `[prefix_positions + grid.0 * grid.1, embed_dim]`.
        tensor: TensorRef,
        /// The first so many prefix tokens have a position; the others have none.
        prefix_positions: usize,
        /// Rows and columns of the stored grid.
        grid: (usize, usize),
        resampling: PositionResampling,
    },
    /// DINOv3: 2D axial rotation of query and key of patch tokens, halves rotated.
    Rotary {
        /// Base of the frequencies.
        theta: f64,
    },
}

/// From pixels to the input of block 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    /// Weight `[embed_dim, channels, patch, patch]`.
    pub patch: Linear,
    /// In token order.
    pub prefix: Vec<PrefixTokens>,
    pub position: Position,
    /// CLIP normalises the tokens before block 0.
    pub norm: Option<LayerNorm>,
}

/// From the last block's tokens to the image embedding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(clippy::large_enum_variant, reason = "a model has one; a box would only make it harder to build")]
pub enum Pooling {
    /// Token 0.
    Class,
    /// The norm of token 0 only.
    ClassThenNorm { norm: LayerNorm },
    /// `tanh(dense(token 0))`.
    ClassDenseTanh { dense: Linear },
    /// The mean of tokens 0 and 1.
    MeanClassDistillation,
    /// The mean of the patch tokens.
    MeanPatches,
    /// That mean, normalised.
    MeanPatchesThenNorm { norm: LayerNorm },
    /// A learned query attends to all tokens: `a = out(attention)`, then
    /// `a + down(act(up(norm(a))))`. SigLIP.
    Attention {
        /// Flattens to `[embed_dim]`.
        probe: TensorRef,
        heads: usize,
        query: Linear,
        key: Linear,
        value: Linear,
        out: Linear,
        norm: LayerNorm,
        up: Linear,
        down: Linear,
        activation: Activation,
    },
}

/// From the image embedding to the classes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Head {
    /// One linear layer on the embedding (a bias-less projection too).
    Linear { linear: Linear },
    /// One linear layer on token 0 and the mean of the patch tokens, joined.
    ClassAndPatchMean { linear: Linear },
    /// The mean of two classifiers, of token 0 and of token 1.
    AverageOfTwo { class: Linear, distillation: Linear },
}

/// How the model's own preprocessing resizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    Nearest,
    Bilinear,
    Bicubic,
    Lanczos,
}

/// How an image whose shape is not the input's becomes one (timm's `crop_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CropMode {
    /// The aspect ratio stays, and what stands out is cut off.
    #[default]
    Center,
    /// Height and width are scaled each for itself, and nothing is cut off where the crop fraction is 1.
    Squash,
}

/// The image that the model expects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageInput {
    pub height: usize,
    pub width: usize,
    /// Always 3 in the supported families.
    pub channels: usize,
    /// Side of a square patch, pixels.
    pub patch: usize,
    /// Per channel, for values in 0 to 1.
    pub mean: [f32; 3],
    pub std: [f32; 3],
    pub interpolation: Interpolation,
    /// The part of the resized shorter side (of each side, where they are squashed) that the centre crop keeps, 0 to 1.
    pub crop_fraction: f32,
    #[serde(default)]
    pub crop_mode: CropMode,
}

/// A Vision Transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// For messages: what was recognised, such as `timm ViT (vit_base_patch16_224)`.
    pub family: String,
    pub image: ImageInput,
    pub embed_dim: usize,
    pub heads: usize,
    pub head_dim: usize,
    /// MLP hidden neurons of a block.
    pub neurons: usize,
    pub activation: Activation,
    pub embedding: Embedding,
    pub blocks: Vec<Block>,
    /// The norm of all tokens after the last block.
    pub final_norm: Option<LayerNorm>,
    pub pooling: Pooling,
    pub head: Option<Head>,
    /// Names of the classes, where the checkpoint's config has them.
    pub labels: Option<Vec<String>>,
}

impl Description {
    /// Rows and columns of patches at the input size.
    #[must_use]
    pub fn grid(&self) -> (usize, usize) {
        (self.image.height / self.image.patch, self.image.width / self.image.patch)
    }

    /// Tokens before the patch tokens.
    #[must_use]
    pub fn prefix_tokens(&self) -> usize {
        self.embedding.prefix.iter().map(|prefix| prefix.count).sum()
    }

    /// All tokens of one image at the input size.
    #[must_use]
    pub fn tokens(&self) -> usize {
        let (rows, columns) = self.grid();
        self.prefix_tokens() + rows * columns
    }
}
