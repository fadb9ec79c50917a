//! Plain arrays, for processors without the instructions that the other files need.

use super::{Kernel, PANEL, PanelRow, Simd};

#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Portable;

fn each(a: [f32; PANEL], b: [f32; PANEL], operation: impl Fn(f32, f32) -> f32) -> [f32; PANEL] {
    std::array::from_fn(|lane| operation(a[lane], b[lane]))
}

impl Simd for Portable {
    type Lanes = [f32; PANEL];

    const TILE_ROWS: usize = 2;
    const TWO_PANELS: bool = false;

    fn vectorize<K: Kernel>(self, kernel: K) {
        kernel.run(self);
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Lanes {
        [value; PANEL]
    }

    #[inline(always)]
    fn load(self, values: &[f32; PANEL]) -> Self::Lanes {
        *values
    }

    #[inline(always)]
    fn store(self, lanes: Self::Lanes, values: &mut [f32; PANEL]) {
        *values = lanes;
    }

    #[inline(always)]
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(a, b, |a, b| a / b)
    }

    // Not `f32::mul_add`: without the instruction it is a slow library call.
    #[inline(always)]
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        std::array::from_fn(|lane| a[lane] * b[lane] + c[lane])
    }

    #[inline(always)]
    fn min(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn round(self, a: Self::Lanes) -> Self::Lanes {
        // Adding 1.5 * 2^23 leaves no bits for a fraction; `f32::round` is a library call here.
        const LEAVES_NO_FRACTION: f32 = 12_582_912.0;
        a.map(|a| (a + LEAVES_NO_FRACTION) - LEAVES_NO_FRACTION)
    }

    #[inline(always)]
    fn scale(self, a: Self::Lanes, n: Self::Lanes) -> Self::Lanes {
        each(a, n, |a, n| a * f32::from_bits(((n as i32).wrapping_add(127) << 23) as u32))
    }

    #[inline(always)]
    fn prefetch(self, _: &PanelRow) {}

    #[inline(always)]
    fn sum(self, a: Self::Lanes) -> f32 {
        a.iter().sum()
    }

    #[inline(always)]
    fn largest(self, a: Self::Lanes) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}
