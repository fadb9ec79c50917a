//! Products of quantised rows with int8 matrices.

#[cfg(arm_dsp)]
mod arm_dsp;
#[cfg(not(arm_dsp))]
mod portable;

#[cfg(arm_dsp)]
pub(super) use arm_dsp::{in_place, multiply_add};
#[cfg(not(arm_dsp))]
pub(super) use portable::in_place;

use headroom_shared::integer_model::IntegerLinear;

use super::quantise::QuantisedRows;

/// Some outputs of a layer for some rows of activations.
///
/// Every kernel gives `sum` of `(number - zero) * weight` in i32, exactly, and
/// then `sum as f32 * (step scale * row scale) + bias` in f32, in this order.
/// The sum fits: 65,535 products of 255 and 128 are less than 2^31.
pub(in crate::integer) struct Product<'a> {
    pub layer: IntegerLinear<'a>,
    /// The first output, and how many.
    pub first: usize,
    pub count: usize,
    pub rows: QuantisedRows<'a>,
    /// The first output of the first row goes to its start.
    pub out: &'a mut [f32],
    /// Values from one row of `out` to the next.
    pub stride: usize,
    /// Whether the products are added to what is there.
    pub add: bool,
    /// For kernels that widen activations.
    pub widened: &'a mut [i16],
}

/// From the integer sum to an output.
#[inline(always)]
pub(in crate::integer) fn finish(sum: i32, scale: f32, bias: f32) -> f32 {
    sum as f32 * scale + bias
}
