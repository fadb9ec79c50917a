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

use headroom_shared::integer_model::row_stride;

use super::{Product, finish};
use crate::integer::quantise::QuantisedRows;

/// Columns that one step takes: what rows of weights are padded to.
const COLUMNS: usize = 16;

/// Two rows of activations of four columns: `[a0 a2] [a1 a3]` of the first, and of the second.
type Activations = [u32; 4];

/// Computes `product` from the rows of the file.
pub(in crate::integer) fn in_place(product: Product<'_>) {
    if product.add { all_rows::<true>(product) } else { all_rows::<false>(product) }
}

fn all_rows<const ADD: bool>(product: Product<'_>) {
    let Product { layer, first, count, rows, out, stride, widened, .. } = product;
    let columns = rows.columns.next_multiple_of(COLUMNS);
    let row_bytes = row_stride(layer.columns());
    let outputs = Outputs {
        weights: &layer.weights()[first * row_bytes..(first + count) * row_bytes],
        row_bytes,
        columns,
        scales: layer.scales().part(first, count).bytes(),
        biases: layer.biases().part(first, count).bytes(),
    };
    for row in (0..rows.steps.len()).step_by(2) {
        let activations = widen(&rows, row, columns, widened);
        let (out, rest) = out[row * stride..].split_at_mut(count);
        if let Some(second) = rows.steps.get(row + 1) {
            let rest = &mut rest[stride - count..][..count];
            outputs.two_rows::<ADD>(activations, [rows.steps[row].scale, second.scale], [out, rest]);
        } else {
            outputs.two_rows::<ADD>(activations, [rows.steps[row].scale, 0.0], [out, &mut []]);
        }
    }
}

/// Some outputs of a layer.
struct Outputs<'a> {
    weights: &'a [u8],
    /// From one row of weights to the next.
    row_bytes: usize,
    /// Bytes of a row that are in use.
    columns: usize,
    scales: &'a [[u8; 4]],
    biases: &'a [[u8; 4]],
}

impl Outputs<'_> {
    /// The outputs of two rows of activations, the second of which has no room where there is none. Iterators, and not
    /// indices: for few columns, what follows the sums takes as long as the sums.
    fn two_rows<const ADD: bool>(&self, activations: &[Activations], scales: [f32; 2], out: [&mut [f32]; 2]) {
        let value = |sum: i32, scale: f32, of: [u8; 4], bias: [u8; 4]| {
            finish(sum, scale * f32::from_le_bytes(of), f32::from_le_bytes(bias))
        };
        let put = |out: &mut f32, value: f32| *out = if ADD { *out + value } else { value };
        let [first, second] = out;
        let one_row = second.is_empty();
        let ((first, first_rest), (second, second_rest)) = (first.as_chunks_mut::<2>(), second.as_chunks_mut::<2>());
        let ((of, of_rest), (biases, bias_rest)) = (self.scales.as_chunks::<2>(), self.biases.as_chunks::<2>());
        let mut second = second.iter_mut();
        let mut weights = self.weights.chunks_exact(2 * self.row_bytes.max(1));
        for (((weights, of), bias), first) in weights.by_ref().zip(of).zip(biases).zip(first) {
            let (weights0, weights1) = weights.split_at(self.row_bytes);
            let sums = tile(activations, [&weights0[..self.columns], &weights1[..self.columns]]);
            put(&mut first[0], value(sums[0], scales[0], of[0], bias[0]));
            put(&mut first[1], value(sums[2], scales[0], of[1], bias[1]));
            if let Some(second) = second.next() {
                put(&mut second[0], value(sums[1], scales[1], of[0], bias[0]));
                put(&mut second[1], value(sums[3], scales[1], of[1], bias[1]));
            }
        }
        if let ([of], [bias], [first]) = (of_rest, bias_rest, first_rest) {
            let weights = &weights.remainder()[..self.columns];
            let sums = tile(activations, [weights; 2]);
            put(first, value(sums[0], scales[0], *of, *bias));
            if let (false, [second]) = (one_row, second_rest) {
                put(second, value(sums[1], scales[1], *of, *bias));
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
            "ldr r8, [r2], #4
            ldr r9, [r3], #4
            sxtb16 r4, r8
            sxtb16 r8, r8, ror #8
            sxtb16 r5, r9
            sxtb16 r9, r9, ror #8
            ldrd r6, r7, [r1], #8
            smlad r10, r4, r6, r10
            smlad r12, r5, r6, r12
            smlad r10, r8, r7, r10
            smlad r12, r9, r7, r12
            ldrd r6, r7, [r1], #8
            smlad r11, r4, r6, r11
            smlad lr, r5, r6, lr
            smlad r11, r8, r7, r11
            smlad lr, r9, r7, lr"
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
            "subs r0, r0, #1",
            "bne 2b",
            "pop {{r6, r7}}",
            inout("r0") steps => _,
            inout("r1") activations.as_ptr() => _,
            inout("r2") weights[0].as_ptr() => _,
            inout("r3") weights[1].as_ptr() => _,
            out("r4") _, out("r5") _, out("r8") _, out("r9") _,
            inout("r10") *sum0, inout("r11") *sum1, inout("r12") *sum2, inout("lr") *sum3,
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
