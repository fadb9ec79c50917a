//! AVX-512F: one vector of 16 lanes, 32 registers.

use std::arch::x86_64::*;

use super::{Kernel, PANEL, PanelRow, Simd};

/// Proof that the processor has AVX-512F.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Avx512 {
    _detected: (),
}

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self { _detected: () })
    }
}

#[target_feature(enable = "avx512f")]
fn run<K: Kernel>(simd: Avx512, kernel: K) {
    kernel.run(simd);
}

impl Simd for Avx512 {
    type Lanes = __m512;

    // 28 sums, two rows of panels and one broadcast are 31 of 32 registers.
    const TILE_ROWS: usize = 14;
    const TWO_PANELS: bool = true;

    fn vectorize<K: Kernel>(self, kernel: K) {
        // SAFETY: `self` exists only where `detect` found AVX-512F.
        unsafe { run(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX-512F.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn load(self, values: &[f32; PANEL]) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX-512F; the reference covers 16 values.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, lanes: Self::Lanes, values: &mut [f32; PANEL]) {
        // SAFETY: `self` exists only where `detect` found AVX-512F; the reference covers 16 values.
        unsafe { _mm512_storeu_ps(values.as_mut_ptr(), lanes) }
    }

    #[inline(always)]
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX-512F.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX-512F.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX-512F.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX-512F.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX-512F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn min(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX-512F.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX-512F.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn round(self, a: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX-512F.
        unsafe { _mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(a) }
    }

    #[inline(always)]
    fn scale(self, a: Self::Lanes, n: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX-512F.
        unsafe { _mm512_scalef_ps(a, n) }
    }

    #[inline(always)]
    fn prefetch(self, row: &PanelRow) {
        // SAFETY: it reads nothing; any address is good.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(row).cast()) }
    }

    #[inline(always)]
    fn sum(self, a: Self::Lanes) -> f32 {
        // SAFETY: `self` exists only where `detect` found AVX-512F.
        unsafe { _mm512_reduce_add_ps(a) }
    }

    #[inline(always)]
    fn largest(self, a: Self::Lanes) -> f32 {
        // SAFETY: `self` exists only where `detect` found AVX-512F.
        unsafe { _mm512_reduce_max_ps(a) }
    }
}
