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
#[cfg_attr(feature = "std", inline(always))]
#[cfg_attr(not(feature = "std"), inline(never))]
pub(super) fn range(values: &[f32]) -> (f32, f32) {
    (extreme(values, 0.0, smaller), extreme(values, 0.0, larger))
}

/// The largest of the values; minus infinity where there is none, or none is a number.
#[inline(always)]
pub(super) fn largest(values: &[f32]) -> f32 {
    extreme(values, f32::NEG_INFINITY, larger)
}

#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// `choose` gives the second of two that it cannot compare: a value that is no number is never chosen.
#[inline(always)]
fn extreme(values: &[f32], start: f32, choose: impl Fn(f32, f32) -> f32) -> f32 {
    let mut chosen = [start; LANES];
    let (chunks, tail) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            chosen[lane] = choose(chunk[lane], chosen[lane]);
        }
    }
    for (chosen, value) in chosen.iter_mut().zip(tail) {
        *chosen = choose(*value, *chosen);
    }
    for apart in [8, 4, 2, 1] {
        for lane in 0..apart {
            chosen[lane] = choose(chosen[lane + apart], chosen[lane]);
        }
    }
    chosen[0]
}
