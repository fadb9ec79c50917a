//! Sixteen f32 lanes on each instruction set, and the choice among them at run time.
//!
//! A kernel is written once, over the trait [`Simd`], and compiled for every instruction set of the
//! architecture. A value of a type that implements [`Simd`] is a token: it can only be made after
//! the processor was found to have the instructions, which is what makes its methods safe.
//!
#![allow(unsafe_code, reason = "the intrinsics of std::arch, guarded by the tokens")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use super::panel::{PANEL, PanelRow};

/// The most rows that a tile of any instruction set has.
pub(super) const MAX_TILE_ROWS: usize = 14;

/// A computation that is compiled for each instruction set.
///
/// `run` and all that it calls must be `#[inline(always)]`: only what is inlined into the entry
/// function of an instruction set is compiled with its instructions.
pub(super) trait Kernel {
    fn run<S: Simd>(self, simd: S);
}

/// Sixteen lanes of f32 and the operations on them.
pub(super) trait Simd: Copy {
    type Lanes: Copy;

    /// Rows of a matrix tile whose sums fit the registers.
    const TILE_ROWS: usize;
    /// Whether a tile is two panels wide; else it is one.
    const TWO_PANELS: bool;

    /// Runs `kernel` compiled for this instruction set.
    fn vectorize<K: Kernel>(self, kernel: K);

    fn splat(self, value: f32) -> Self::Lanes;
    fn load(self, values: &[f32; PANEL]) -> Self::Lanes;
    fn store(self, lanes: Self::Lanes, values: &mut [f32; PANEL]);
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    fn sub(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    fn div(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// `a b + c`.
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;
    fn min(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    fn max(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// To the nearest integer.
    fn round(self, a: Self::Lanes) -> Self::Lanes;
    /// `a 2^n` for integers `n` in -126 to 127.
    fn scale(self, a: Self::Lanes, n: Self::Lanes) -> Self::Lanes;
    /// Asks for a row to be brought into the second-nearest cache, as it is about to be read.
    fn prefetch(self, row: &PanelRow);
    /// The sum of all lanes.
    fn sum(self, a: Self::Lanes) -> f32;
    /// The largest of all lanes.
    fn largest(self, a: Self::Lanes) -> f32;
}

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug)]
pub(super) enum InstructionSet {
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
    Portable(portable::Portable),
}

impl InstructionSet {
    /// All that this processor has, best first.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        [
            #[cfg(target_arch = "x86_64")]
            avx512::Avx512::detect().map(Self::Avx512),
            #[cfg(target_arch = "x86_64")]
            avx2::Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "aarch64")]
            neon::Neon::detect().map(Self::Neon),
        ]
        .into_iter()
        .flatten()
        .chain([Self::Portable(portable::Portable)])
    }

    /// The best that this processor has.
    pub(super) fn best() -> Self {
        Self::available().next().unwrap_or(Self::Portable(portable::Portable))
    }

    /// Runs `kernel` with these instructions.
    pub(super) fn run(self, kernel: impl Kernel) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => simd.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => simd.vectorize(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => simd.vectorize(kernel),
            Self::Portable(simd) => simd.vectorize(kernel),
        }
    }

    /// Its usual name.
    pub(super) fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "NEON",
            Self::Portable(_) => "portable",
        }
    }
}
