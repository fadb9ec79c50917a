//! NEON, which every aarch64 has: four vectors of 4 lanes, 32 registers.

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Kernel, PANEL, PanelRow, Simd};

/// Proof that the processor has NEON.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Neon {
    _detected: (),
}

impl Neon {
    pub(super) fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self { _detected: () })
    }
}

#[target_feature(enable = "neon")]
fn run<K: Kernel>(simd: Neon, kernel: K) {
    kernel.run(simd);
}

const QUARTERS: [usize; 4] = [0, 1, 2, 3];

impl Simd for Neon {
    type Lanes = [float32x4_t; 4];

    // 24 sums, one row of a panel and one broadcast are 29 of 32 registers.
    const TILE_ROWS: usize = 6;
    const TWO_PANELS: bool = false;

    fn vectorize<K: Kernel>(self, kernel: K) {
        // SAFETY: `self` exists only where `detect` found NEON.
        unsafe { run(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found NEON.
        unsafe { [vdupq_n_f32(value); 4] }
    }

    #[inline(always)]
    fn load(self, values: &[f32; PANEL]) -> Self::Lanes {
        let quarters = [0, 4, 8, 12].map(|first| values[first..first + 4].as_ptr());
        // SAFETY: `self` exists only where `detect` found NEON; each quarter has 4 values.
        quarters.map(|quarter| unsafe { vld1q_f32(quarter) })
    }

    #[inline(always)]
    fn store(self, lanes: Self::Lanes, values: &mut [f32; PANEL]) {
        for (quarter, lanes) in values.chunks_exact_mut(4).zip(lanes) {
            // SAFETY: `self` exists only where `detect` found NEON; each quarter has 4 values.
            unsafe { vst1q_f32(quarter.as_mut_ptr(), lanes) }
        }
    }

    #[inline(always)]
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found NEON.
        QUARTERS.map(|quarter| unsafe { vaddq_f32(a[quarter], b[quarter]) })
    }

    #[inline(always)]
    fn sub(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found NEON.
        QUARTERS.map(|quarter| unsafe { vsubq_f32(a[quarter], b[quarter]) })
    }

    #[inline(always)]
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found NEON.
        QUARTERS.map(|quarter| unsafe { vmulq_f32(a[quarter], b[quarter]) })
    }

    #[inline(always)]
    fn div(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found NEON.
        QUARTERS.map(|quarter| unsafe { vdivq_f32(a[quarter], b[quarter]) })
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found NEON.
        QUARTERS.map(|quarter| unsafe { vfmaq_f32(c[quarter], a[quarter], b[quarter]) })
    }

    #[inline(always)]
    fn min(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found NEON.
        QUARTERS.map(|quarter| unsafe { vminq_f32(a[quarter], b[quarter]) })
    }

    #[inline(always)]
    fn max(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found NEON.
        QUARTERS.map(|quarter| unsafe { vmaxq_f32(a[quarter], b[quarter]) })
    }

    #[inline(always)]
    fn round(self, a: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found NEON.
        a.map(|quarter| unsafe { vrndnq_f32(quarter) })
    }

    #[inline(always)]
    fn scale(self, a: Self::Lanes, n: Self::Lanes) -> Self::Lanes {
        // SAFETY: `self` exists only where `detect` found NEON.
        QUARTERS.map(|quarter| unsafe {
            let exponent = vaddq_s32(vcvtq_s32_f32(n[quarter]), vdupq_n_s32(127));
            vmulq_f32(a[quarter], vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        })
    }

    #[inline(always)]
    fn prefetch(self, row: &PanelRow) {
        // SAFETY: it reads nothing; any address is good.
        unsafe { asm!("prfm pldl2keep, [{0}]", in(reg) row, options(nostack, readonly, preserves_flags)) }
    }

    #[inline(always)]
    fn sum(self, a: Self::Lanes) -> f32 {
        // SAFETY: `self` exists only where `detect` found NEON.
        unsafe { vaddvq_f32(vaddq_f32(vaddq_f32(a[0], a[1]), vaddq_f32(a[2], a[3]))) }
    }

    #[inline(always)]
    fn largest(self, a: Self::Lanes) -> f32 {
        // SAFETY: `self` exists only where `detect` found NEON.
        unsafe { vmaxvq_f32(vmaxq_f32(vmaxq_f32(a[0], a[1]), vmaxq_f32(a[2], a[3]))) }
    }
}
