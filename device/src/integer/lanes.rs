//! Sixteen f32 at a time, with the same bits on every processor.
//!
//! Only operations that IEEE 754 defines to the last bit are used, never a
//! fused multiply-add, and sums are taken in one fixed order. Compilers turn
//! the loops over sixteen numbers into vector instructions where there are any.

pub(super) const LANES: usize = 16;

/// Adding and subtracting 1.5 * 2^23 leaves the nearest integer, ties to even.
const LEAVES_NO_FRACTION: f32 = 12_582_912.0;

/// The nearest integer of a number of -2^22 to 2^22; anything for another number.
#[inline(always)]
pub(super) fn round(x: f32) -> i32 {
    (x + LEAVES_NO_FRACTION).to_bits().cast_signed().wrapping_sub(LEAVES_NO_FRACTION.to_bits().cast_signed())
}

/// `x` within bounds; the lower one for what is not a number.
#[inline(always)]
pub(super) fn clamp(x: f32, lowest: f32, highest: f32) -> f32 {
    let x = if x > lowest { x } else { lowest };
    if x < highest { x } else { highest }
}

/// The sum of `term` of all values. Lane `l` adds values `l`, `l + 16`, ...;
/// then lanes that are 8, 4, 2 and 1 apart are added.
#[inline(always)]
pub(super) fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (chunks, tail) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += term(chunk[lane]);
        }
    }
    for (sum, value) in sums.iter_mut().zip(tail) {
        *sum += term(*value);
    }
    for apart in [8, 4, 2, 1] {
        for lane in 0..apart {
            sums[lane] += sums[lane + apart];
        }
    }
    sums[0]
}

/// The smallest and the largest of the values and 0.
#[inline(always)]
pub(super) fn range(values: &[f32]) -> (f32, f32) {
    let (mut smallest, mut largest) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    let (chunks, tail) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            smallest[lane] = if chunk[lane] < smallest[lane] { chunk[lane] } else { smallest[lane] };
            largest[lane] = if chunk[lane] > largest[lane] { chunk[lane] } else { largest[lane] };
        }
    }
    let mut all = (0.0, 0.0);
    for &value in smallest.iter().chain(&largest).chain(tail) {
        all.0 = if value < all.0 { value } else { all.0 };
        all.1 = if value > all.1 { value } else { all.1 };
    }
    all
}
