//! AVX2 with FMA: two vectors of 8 lanes, 16 registers.

use std::arch::x86_64::*;

use super::{Kernel, PANEL, PanelRow, Simd};

/// Proof that the processor has AVX2 and FMA.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Avx2 {
    _detected: (),
}

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self { _detected: () })
    }
}

#[target_feature(enable = "avx2,fma")]
fn run<K: Kernel>(simd: Avx2, kernel: K) {
    kernel.run(simd);
}

impl Simd for Avx2 {
    type Lanes = [__m256; 2];

    // 12 sums, one row of a panel and one broadcast are 15 of 16 registers.
    const TILE_ROWS: usize = 6;
    const TWO_PANELS: bool = false;

    fn vectorize<K: Kernel>(self, kernel: K) {
        // SAFETY: `self` exists only where `detect` found AVX2 and FMA.
        unsafe { run(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX2 and FMA.
        unsafe { [_mm256_set1_ps(value); 2] }
    }

    #[inline(always)]
    fn load(self, values: &[f32; PANEL]) -> Self::Lanes {
        let (low, high) = values.split_at(8);
        // SAFETY: `self` exists only where `detect` found AVX2 and FMA; each half has 8 values.
        unsafe { [_mm256_loadu_ps(low.as_ptr()), _mm256_loadu_ps(high.as_ptr())] }
    }

    #[inline(always)]
    fn store(self, lanes: Self::Lanes, values: &mut [f32; PANEL]) {
        let (low, high) = values.split_at_mut(8);
        // SAFETY: `self` exists only where `detect` found AVX2 and FMA; each half has 8 values.
        unsafe {
            _mm256_storeu_ps(low.as_mut_ptr(), lanes[0]);
            _mm256_storeu_ps(high.as_mut_ptr(), lanes[1]);
        }
    }

    #[inline(always)]
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX2 and FMA.
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn sub(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX2 and FMA.
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX2 and FMA.
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn div(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX2 and FMA.
        unsafe { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX2 and FMA.
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }

    #[inline(always)]
    fn min(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX2 and FMA.
        unsafe { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn max(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX2 and FMA.
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn round(self, a: Self::Lanes) -> Self::Lanes {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: `self` exists only where `detect` found AVX2 and FMA.
        unsafe { [_mm256_round_ps::<NEAREST>(a[0]), _mm256_round_ps::<NEAREST>(a[1])] }
    }

    #[inline(always)]
    fn scale(self, a: Self::Lanes, n: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found AVX2 and FMA.
        unsafe {
            let bias = _mm256_set1_epi32(127);
            let low = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n[0]), bias));
            let high = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(n[1]), bias));
            [_mm256_mul_ps(a[0], _mm256_castsi256_ps(low)), _mm256_mul_ps(a[1], _mm256_castsi256_ps(high))]
        }
    }

    #[inline(always)]
    fn prefetch(self, row: &PanelRow) {
        // SAFETY: it reads nothing; any address is good.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(row).cast()) }
    }

    #[inline(always)]
    fn sum(self, a: Self::Lanes) -> f32 {
        let mut lanes = [0.0; PANEL];
        self.store(a, &mut lanes);
        halve(lanes, |a, b| a + b)
    }

    #[inline(always)]
    fn largest(self, a: Self::Lanes) -> f32 {
        let mut lanes = [0.0; PANEL];
        self.store(a, &mut lanes);
        halve(lanes, f32::max)
    }
}

/// Combines the upper half of the lanes with the lower until one is left.
#[inline(always)]
fn halve(mut lanes: [f32; PANEL], combine: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] = combine(lanes[lane], lanes[lane + half]);
        }
    }
    lanes[0]
}
