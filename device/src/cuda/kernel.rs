//! The kernels by name, and launches of them as data.

use super::buffer::Place;
use super::capability::ComputeCapability;
use crate::model::description::Activation;

/// What each thread of a kernel does, in C: in front of every kernel's source.
#[cfg(feature = "cuda")]
pub const FUNCTIONS: &str = concat!(include_str!("kernels/functions.h"), include_str!("kernels/fused_attention.h"));

/// A kernel of `kernels/`. The numbers are those of `kernels/emulate.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    GatherPatches = 0,
    AddTokens = 1,
    BiasFunction = 2,
    BiasFunctionWide = 3,
    Gate = 4,
    ResidualNorm = 5,
    Softmax = 6,
    MeanTokens = 7,
    MeanKeys = 8,
    MostAlike = 9,
    ChooseMerged = 10,
    MergeTokens = 11,
    CopyBack = 12,
    Rotary = 13,
    FusedAttention64 = 14,
    FusedAttention128 = 15,
}

impl Kernel {
    pub const ALL: [Self; 16] = [
        Self::GatherPatches,
        Self::AddTokens,
        Self::BiasFunction,
        Self::BiasFunctionWide,
        Self::Gate,
        Self::ResidualNorm,
        Self::Softmax,
        Self::MeanTokens,
        Self::MeanKeys,
        Self::MostAlike,
        Self::ChooseMerged,
        Self::MergeTokens,
        Self::CopyBack,
        Self::Rotary,
        Self::FusedAttention64,
        Self::FusedAttention128,
    ];

    /// The name of its function.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GatherPatches => "gather_patches_kernel",
            Self::AddTokens => "add_tokens_kernel",
            Self::BiasFunction => "bias_function_kernel",
            Self::BiasFunctionWide => "bias_function_wide_kernel",
            Self::Gate => "gate_kernel",
            Self::ResidualNorm => "residual_norm_kernel",
            Self::Softmax => "softmax_kernel",
            Self::MeanTokens => "mean_tokens_kernel",
            Self::MeanKeys => "mean_keys_kernel",
            Self::MostAlike => "most_alike_kernel",
            Self::ChooseMerged => "choose_merged_kernel",
            Self::MergeTokens => "merge_tokens_kernel",
            Self::CopyBack => "copy_back_kernel",
            Self::Rotary => "rotary_kernel",
            Self::FusedAttention64 => "fused_attention_64_kernel",
            Self::FusedAttention128 => "fused_attention_128_kernel",
        }
    }

    /// Its source, to be compiled after [`FUNCTIONS`].
    #[must_use]
    pub fn source(self) -> &'static str {
        match self {
            Self::GatherPatches => include_str!("kernels/gather_patches.cu"),
            Self::AddTokens => include_str!("kernels/add_tokens.cu"),
            Self::BiasFunction => include_str!("kernels/bias_function.cu"),
            Self::BiasFunctionWide => include_str!("kernels/bias_function_wide.cu"),
            Self::Gate => include_str!("kernels/gate.cu"),
            Self::ResidualNorm => include_str!("kernels/residual_norm.cu"),
            Self::Softmax => include_str!("kernels/softmax.cu"),
            Self::MeanTokens => include_str!("kernels/mean_tokens.cu"),
            Self::MeanKeys => include_str!("kernels/mean_keys.cu"),
            Self::MostAlike => include_str!("kernels/most_alike.cu"),
            Self::ChooseMerged => include_str!("kernels/choose_merged.cu"),
            Self::MergeTokens => include_str!("kernels/merge_tokens.cu"),
            Self::CopyBack => include_str!("kernels/copy_back.cu"),
            Self::Rotary => include_str!("kernels/rotary.cu"),
            Self::FusedAttention64 => include_str!("kernels/fused_attention_64.cu"),
            Self::FusedAttention128 => include_str!("kernels/fused_attention_128.cu"),
        }
    }

    /// The first GPUs that it can be compiled for.
    #[must_use]
    pub fn needs(self) -> ComputeCapability {
        match self {
            Self::FusedAttention64 | Self::FusedAttention128 => ComputeCapability::SM_80,
            _ => ComputeCapability::SM_72,
        }
    }

    /// Threads of a block, and how many items of work it does.
    fn block(self) -> (usize, usize) {
        match self {
            Self::Softmax | Self::MeanKeys | Self::MostAlike => (128, 4),
            Self::ResidualNorm | Self::FusedAttention64 | Self::FusedAttention128 => (128, 1),
            Self::ChooseMerged => (512, 1),
            Self::BiasFunction => (256, 2048),
            _ => (256, 256),
        }
    }
}

/// A launch of a kernel: its arguments in the order of the kernel's parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    pub kernel: Kernel,
    pub places: Vec<Place>,
    /// The first is the number of items of work: values, or rows, images or tiles of queries.
    pub integers: Vec<i32>,
    pub number: Option<f32>,
}

impl Launch {
    /// A launch whose sizes were checked with the buffers'.
    pub(super) fn new(kernel: Kernel, places: &[Place], integers: &[usize]) -> Self {
        let integers = integers.iter().map(|&value| i32::try_from(value).expect("buffers are checked to be smaller"));
        Self { kernel, places: places.to_vec(), integers: integers.collect(), number: None }
    }

    /// Blocks of the grid, and threads of a block.
    #[must_use]
    pub fn dimensions(&self) -> (u32, u32) {
        let (threads, items) = self.kernel.block();
        let blocks = (self.integers[0] as usize).div_ceil(items);
        (blocks as u32, threads as u32)
    }
}

/// What a kernel applies after a bias. The numbers are those of `apply` in `kernels/functions.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Gelu = 0,
    GeluTanh = 1,
    QuickGelu = 2,
    Silu = 3,
    Tanh = 4,
    Identity = 5,
}

impl From<Activation> for Function {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Gelu => Self::Gelu,
            Activation::GeluTanh => Self::GeluTanh,
            Activation::QuickGelu => Self::QuickGelu,
            Activation::Silu => Self::Silu,
        }
    }
}
