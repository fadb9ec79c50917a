//! From f32 to integers: each row of activations for itself.

use super::kernel::Kernel;
use super::lanes::{clamp, range, round};

/// What the numbers of a quantised row mean: `(number - zero) * scale`.
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Step {
    pub scale: f32,
    pub zero: i32,
}

/// Rows of u8, each with its step. What follows the last value of a row, up to
/// its padded end, is that row's zero.
#[derive(Clone, Copy)]
pub(super) struct QuantisedRows<'a> {
    pub values: &'a [u8],
    pub stride: usize,
    pub steps: &'a [Step],
    /// Numbers of a row that are in use.
    pub columns: usize,
}

/// Bytes from one quantised row to the next.
pub(super) const fn quantised_stride(columns: usize) -> usize {
    columns.next_multiple_of(64)
}

/// Smallest range of a row that is told from 0: its inverse is still a number.
const SMALLEST_RANGE: f32 = 1e-30;

/// Rounds a row to 256 steps between its smallest and its largest value, 0 among them, and fills the rest of `out`
/// with zeros.
#[cfg_attr(feature = "std", inline(always))]
#[cfg_attr(not(feature = "std"), inline(never))]
pub(super) fn quantise_row(values: &[f32], out: &mut [u8]) -> Step {
    let (smallest, largest) = range(values);
    let width = largest - smallest;
    let inverse = if width > SMALLEST_RANGE { 255.0 / width } else { 0.0 };
    let scale = if width > SMALLEST_RANGE { width / 255.0 } else { 0.0 };
    let zero = round(clamp(-smallest * inverse, 0.0, 255.0));
    let number = |value: f32| round(clamp(value * inverse, -255.0, 255.0)).wrapping_add(zero).clamp(0, 255) as u8;
    let (out, rest) = out.split_at_mut(values.len());
    for (out, value) in out.iter_mut().zip(values) {
        *out = number(*value);
    }
    rest.fill(zero as u8);
    Step { scale, zero }
}

/// Largest absolute value of queries and keys: [`MAX_HEAD_DIM`] products of two sum up to less than 2^31.
///
/// [`MAX_HEAD_DIM`]: headroom_shared::integer_model::MAX_HEAD_DIM
pub(super) const LARGEST_QUERY: f32 = 4095.0;
const _: () = assert!(4095 * 4095 * headroom_shared::integer_model::MAX_HEAD_DIM < 1 << 31);

/// Largest absolute value of values of heads.
pub(super) const LARGEST_VALUE: f32 = 32767.0;

/// The scale of numbers up to `most` for values up to `largest`, and its inverse.
#[inline(always)]
pub(super) fn symmetric_scale((smallest, largest): (f32, f32), most: f32) -> (f32, f32) {
    let largest = if -smallest > largest { -smallest } else { largest };
    if largest > SMALLEST_RANGE { (largest / most, most / largest) } else { (0.0, 0.0) }
}

/// The nearest number of a value.
#[inline(always)]
pub(super) fn symmetric_number(value: f32, inverse: f32, most: f32) -> i16 {
    round(clamp(value * inverse, -most, most)) as i16
}

/// Quantises rows of `columns` values; the number of steps says how many.
pub(super) struct QuantiseRows<'a> {
    pub values: &'a [f32],
    pub columns: usize,
    pub quantised: &'a mut [u8],
    pub steps: &'a mut [Step],
}

impl Kernel for QuantiseRows<'_> {
    #[inline(always)]
    fn run(self) {
        let stride = quantised_stride(self.columns);
        for (row, step) in self.steps.iter_mut().enumerate() {
            let values = &self.values[row * self.columns..][..self.columns];
            *step = quantise_row(values, &mut self.quantised[row * stride..][..stride]);
        }
    }
}
