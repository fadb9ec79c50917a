//! Products on weights where they are, in plain Rust.

use super::{Product, finish};
use crate::integer::quantise::QuantisedRows;

/// Computes `product` from the rows of the file.
pub(in crate::integer) fn in_place(product: Product<'_>) {
    let Product { layer, first, count, rows, out, stride, add, widened } = product;
    for (row, step) in rows.steps.iter().enumerate() {
        let activations = widen(&rows, row, widened);
        let out = &mut out[row * stride..][..count];
        let scales = layer.scales().part(first, count);
        let biases = layer.biases().part(first, count);
        for (output, out) in out.iter_mut().enumerate() {
            let sum = dot(activations, layer.row(first + output));
            let value = finish(sum, step.scale * scales.get(output), biases.get(output));
            *out = if add { *out + value } else { value };
        }
    }
}

/// A row less its zero, up to a multiple of 16 columns.
fn widen<'w>(rows: &QuantisedRows<'_>, row: usize, widened: &'w mut [i16]) -> &'w [i16] {
    let columns = rows.columns.next_multiple_of(16);
    let values = &rows.values[row * rows.stride..][..columns];
    let zero = rows.steps[row].zero as i16;
    let widened = &mut widened[..columns];
    for (wide, value) in widened.iter_mut().zip(values) {
        *wide = i16::from(*value) - zero;
    }
    widened
}

#[inline(always)]
fn dot(activations: &[i16], weights: &[u8]) -> i32 {
    let pairs = activations.iter().zip(weights);
    pairs.fold(0_i32, |sum, (&activation, &weight)| {
        sum.wrapping_add(i32::from(activation) * i32::from(weight.cast_signed()))
    })
}
