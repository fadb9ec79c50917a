//! Products on weights where they are, with the DSP instructions of Armv7E-M (Cortex-M4 and M7).
//!
//! `SXTB16` makes two halfwords of bytes 0 and 2 of a word, and after a
//! rotation of bytes 1 and 3; `SMLAD` adds two products of halfwords to a sum.
//! Activations, less their zeros, are brought into that order once for all
//! outputs; a tile is two rows of activations and two outputs. For four
//! columns of it, 2 words of weights and 2 pairs of words of activations are
//! loaded, and 4 `SXTB16` and 8 `SMLAD` make 16 products: 16 instructions.
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
///
/// One piece of assembler: the tile needs every register, two of which no operand may name, and a compiler that is
/// free to move single instructions spills them.
#[inline(always)]
fn tile(activations: &[Activations], weights: [&[u8]; 2]) -> [i32; 4] {
    let steps = activations.len() / (COLUMNS / 4);
    assert!(weights.iter().all(|weights| weights.len() == steps * COLUMNS));
    let mut sums = [0_i32; 4];
    if steps == 0 {
        return sums;
    }
    let [sum0, sum1, sum2, sum3] = &mut sums;
    macro_rules! four_columns {
        () => {
            "ldr {odd0}, [{weights0}], #4
            ldr {odd1}, [{weights1}], #4
            sxtb16 {even0}, {odd0}
            sxtb16 {odd0}, {odd0}, ror #8
            sxtb16 {even1}, {odd1}
            sxtb16 {odd1}, {odd1}, ror #8
            ldrd r6, r7, [{activations}], #8
            smlad {sum0}, {even0}, r6, {sum0}
            smlad {sum2}, {even1}, r6, {sum2}
            smlad {sum0}, {odd0}, r7, {sum0}
            smlad {sum2}, {odd1}, r7, {sum2}
            ldrd r6, r7, [{activations}], #8
            smlad {sum1}, {even0}, r6, {sum1}
            smlad {sum3}, {even1}, r6, {sum3}
            smlad {sum1}, {odd0}, r7, {sum1}
            smlad {sum3}, {odd1}, r7, {sum3}"
        };
    }
    // SAFETY: Armv7E-M has these instructions. Each of `steps` steps reads 16 bytes of each row of weights, which has
    // as many (checked above), and 64 of the activations, which begin at a word and have 16 bytes for 4 columns.
    // r6 and r7 are given back as they were, and the stack with them. The flag Q is set on an overflow only, which the bounds of the sums
    // exclude.
    #[expect(unsafe_code, reason = "the intrinsics are not stable")]
    unsafe {
        asm!(
            "push {{r6, r7}}",
            "2:",
            four_columns!(),
            four_columns!(),
            four_columns!(),
            four_columns!(),
            "subs {steps}, {steps}, #1",
            "bne 2b",
            "pop {{r6, r7}}",
            steps = inout(reg) steps => _,
            activations = inout(reg) activations.as_ptr() => _,
            weights0 = inout(reg) weights[0].as_ptr() => _,
            weights1 = inout(reg) weights[1].as_ptr() => _,
            even0 = out(reg) _, odd0 = out(reg) _, even1 = out(reg) _, odd1 = out(reg) _,
            sum0 = inout(reg) *sum0, sum1 = inout(reg) *sum1, sum2 = inout(reg) *sum2, sum3 = inout(reg) *sum3,
            options(readonly),
        );
    }
    sums
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
