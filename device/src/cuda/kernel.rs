//! The kernels by name, and launches of them as data.

use super::buffer::Place;
use crate::model::description::Activation;

/// What each thread of a kernel does, in C: in front of every kernel's source.
#[cfg(feature = "cuda")]
pub const FUNCTIONS: &str = include_str!("kernels/functions.h");

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
}

impl Kernel {
    pub const ALL: [Self; 8] = [
        Self::GatherPatches,
        Self::AddTokens,
        Self::BiasFunction,
        Self::BiasFunctionWide,
        Self::Gate,
        Self::ResidualNorm,
        Self::Softmax,
        Self::MeanTokens,
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
        }
    }

    /// Threads of a block, and how many of them share an item of work.
    fn block(self) -> (usize, usize) {
        match self {
            Self::ResidualNorm | Self::Softmax => (128, 32),
            _ => (256, 1),
        }
    }
}

/// A launch of a kernel: its arguments in the order of the kernel's parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    pub kernel: Kernel,
    pub places: Vec<Place>,
    /// The first is the number of items of work: threads, or rows of a warp each.
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
        let (threads, of_item) = self.kernel.block();
        let blocks = (self.integers[0] as usize * of_item).div_ceil(threads);
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
