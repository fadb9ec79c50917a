//! Products on weights where they are, with the DSP instructions of Armv7E-M (Cortex-M4 and M7).
//!
//! `SXTB16` makes two halfwords of bytes 0 and 2 of a word, and after a
//! rotation of bytes 1 and 3; `SMLAD` adds two products of halfwords to a sum.
//! Activations, less their zeros, are brought into that order once for all
//! outputs; a tile is two rows of activations and two outputs. For four
//! columns of it, 2 words of weights and 4 of activations are loaded, and 4
//! `SXTB16` and 8 `SMLAD` make 16 products.
//!
//! The technique is that of CMSIS-NN (arXiv 1801.06601).

use core::arch::asm;

use super::{Product, finish};
use crate::integer::quantise::QuantisedRows;

/// Columns that one step takes: what rows of weights are padded to.
const COLUMNS: usize = 16;

/// Two rows of activations of four columns: `[a0 a2] [a1 a3]` of the first, and of the second.
type Activations = [u32; 4];

/// Computes `product` from the rows of the file.
pub(in crate::integer) fn in_place(product: Product<'_>) {
    let Product { layer, first, count, rows, out, stride, add, widened } = product;
    let columns = rows.columns.next_multiple_of(COLUMNS);
    let (scales, biases) = (layer.scales().part(first, count), layer.biases().part(first, count));
    for row in (0..rows.steps.len()).step_by(2) {
        let activations = widen(&rows, row, columns, widened);
        let both = row + 1 < rows.steps.len();
        let row_scales = [rows.steps[row].scale, if both { rows.steps[row + 1].scale } else { 0.0 }];
        let mut write = |sum: i32, place: usize, output: usize| {
            let value = finish(sum, row_scales[place] * scales.get(output), biases.get(output));
            let out = &mut out[(row + place) * stride + output];
            *out = if add { *out + value } else { value };
        };
        for output in (0..count).step_by(2) {
            let second = (output + 1).min(count - 1);
            let weights = [output, second].map(|output| &layer.row(first + output)[..columns]);
            let sums = tile(activations, weights);
            write(sums[0], 0, output);
            if both {
                write(sums[1], 1, output);
            }
            if second > output {
                write(sums[2], 0, second);
                if both {
                    write(sums[3], 1, second);
                }
            }
        }
    }
}

/// Two rows less their zeros, the second of zeros where there is none.
fn widen<'w>(rows: &QuantisedRows<'_>, row: usize, columns: usize, widened: &'w mut [i16]) -> &'w [Activations] {
    let widened = &mut widened[..2 * columns];
    for place in 0..2 {
        let groups = widened.as_chunks_mut::<8>().0.iter_mut().map(|group| &mut group[4 * place..4 * place + 4]);
        if let Some(step) = rows.steps.get(row + place) {
            let values = rows.values[(row + place) * rows.stride..][..columns].as_chunks::<4>().0;
            let zero = step.zero as i16;
            for (group, values) in groups.zip(values) {
                for (halfword, column) in group.iter_mut().zip([0, 2, 1, 3]) {
                    *halfword = i16::from(values[column]) - zero;
                }
            }
        } else {
            groups.for_each(|group| group.fill(0));
        }
    }
    bytemuck::cast_slice(widened)
}

/// The sums of output 0 with rows 0 and 1, and of output 1.
#[inline(always)]
fn tile(activations: &[Activations], weights: [&[u8]; 2]) -> [i32; 4] {
    let [weights0, weights1] = weights.map(|weights| weights.as_chunks::<COLUMNS>().0);
    let activations = activations.as_chunks::<{ COLUMNS / 4 }>().0;
    let mut sums = [0; 4];
    for ((activations, weights0), weights1) in activations.iter().zip(weights0).zip(weights1) {
        for group in 0..COLUMNS / 4 {
            let [a0, a1, b0, b1] = activations[group];
            let word = |weights: &[u8; COLUMNS]| u32::from_le_bytes(weights.as_chunks::<4>().0[group]);
            let (even, odd) = widen_weights(word(weights0));
            sums[0] = multiply_add(odd, a1, multiply_add(even, a0, sums[0]));
            sums[1] = multiply_add(odd, b1, multiply_add(even, b0, sums[1]));
            let (even, odd) = widen_weights(word(weights1));
            sums[2] = multiply_add(odd, a1, multiply_add(even, a0, sums[2]));
            sums[3] = multiply_add(odd, b1, multiply_add(even, b0, sums[3]));
        }
    }
    sums
}

/// Bytes 0 and 2, and bytes 1 and 3, as halfwords.
#[inline(always)]
fn widen_weights(word: u32) -> (u32, u32) {
    let (even, odd);
    // SAFETY: Armv7E-M has these instructions; they only read and write the named registers.
    #[expect(unsafe_code, reason = "the intrinsics are not stable")]
    unsafe {
        asm!(
            "sxtb16 {even}, {word}",
            "sxtb16 {odd}, {word}, ror #8",
            word = in(reg) word, even = out(reg) even, odd = lateout(reg) odd,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    (even, odd)
}

/// `sum` and the products of the low and of the high halfwords.
#[inline(always)]
pub(in crate::integer) fn multiply_add(a: u32, b: u32, sum: i32) -> i32 {
    let result;
    // SAFETY: Armv7E-M has this instruction; it only reads and writes the named registers, and the flag Q on an
    // overflow, which nothing here reads and the bounds of the sums exclude.
    #[expect(unsafe_code, reason = "the intrinsics are not stable")]
    unsafe {
        asm!(
            "smlad {result}, {a}, {b}, {sum}",
            a = in(reg) a, b = in(reg) b, sum = in(reg) sum, result = lateout(reg) result,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    result
}
