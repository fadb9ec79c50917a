//! What a GPU can do.

/// A GPU's compute capability: 8.7 is sm_87.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ComputeCapability {
    pub major: u32,
    pub minor: u32,
}

impl ComputeCapability {
    /// Of Xavier, the oldest that the kernels are compiled for.
    pub const SM_72: Self = Self { major: 7, minor: 2 };
    /// Of the first GPUs whose tensor cores take 16 dimensions of f16 at once.
    pub const SM_80: Self = Self { major: 8, minor: 0 };
}
