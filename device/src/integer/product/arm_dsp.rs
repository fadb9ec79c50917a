//! Products on weights where they are, with the DSP instructions of Armv7E-M (Cortex-M4 and M7) and of Armv8-M
//! (Cortex-M33).
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
    let mut sums = [[0; 4]; PAIRS];
    for row in (0..rows.steps.len()).step_by(2) {
        let activations = widen(&rows, row, columns, widened);
        let (out, rest) = out[row * stride..].split_at_mut(count);
        if let Some(second) = rows.steps.get(row + 1) {
            let rest = &mut rest[stride - count..][..count];
            let scales = [rows.steps[row].scale, second.scale];
            outputs.two_rows::<ADD>(activations, scales, [out, rest], &mut sums);
        } else {
            outputs.two_rows::<ADD>(activations, [rows.steps[row].scale, 0.0], [out, &mut []], &mut sums);
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

/// Pairs of outputs whose sums are computed before any of them is finished.
const PAIRS: usize = 16;

impl Outputs<'_> {
    /// The outputs of two rows of activations, the second of which has no room where there is none.
    fn two_rows<const ADD: bool>(
        &self,
        activations: &[Activations],
        scales: [f32; 2],
        out: [&mut [f32]; 2],
        sums: &mut [[i32; 4]; PAIRS],
    ) {
        let [first, second] = out;
        let count = first.len();
        for start in (0..count).step_by(2 * PAIRS) {
            let outputs = start..(start + 2 * PAIRS).min(count);
            let weights = &self.weights[outputs.start * self.row_bytes..outputs.end * self.row_bytes];
            let pairs = outputs.len() / 2;
            tiles(activations, weights, self.row_bytes, self.columns, &mut sums[..pairs]);
            if !outputs.len().is_multiple_of(2) {
                let last = &weights[2 * pairs * self.row_bytes..];
                // The row beside it is the row itself.
                tiles(activations, last, 0, self.columns, &mut sums[pairs..=pairs]);
            }
            let (of, biases) = (&self.scales[outputs.clone()], &self.biases[outputs.clone()]);
            finish_row::<ADD, 0>(sums, scales[0], of, biases, &mut first[outputs.clone()]);
            if !second.is_empty() {
                finish_row::<ADD, 1>(sums, scales[1], of, biases, &mut second[outputs]);
            }
        }
    }
}

/// Makes outputs of the sums of one of two rows.
#[inline(always)]
fn finish_row<const ADD: bool, const ROW: usize>(
    sums: &[[i32; 4]],
    scale: f32,
    scales: &[[u8; 4]],
    biases: &[[u8; 4]],
    out: &mut [f32],
) {
    let one = |out: &mut f32, sum: i32, of: [u8; 4], bias: [u8; 4]| {
        let value = finish(sum, scale * f32::from_le_bytes(of), f32::from_le_bytes(bias));
        *out = if ADD { *out + value } else { value };
    };
    let (pairs, rest) = out.as_chunks_mut::<2>();
    let (of, biases) = (scales.as_chunks::<2>(), biases.as_chunks::<2>());
    for (((out, sums), of), bias) in pairs.iter_mut().zip(sums).zip(of.0).zip(biases.0) {
        one(&mut out[0], sums[ROW], of[0], bias[0]);
        one(&mut out[1], sums[2 + ROW], of[1], bias[1]);
    }
    if let ([out], [of], [bias], Some(sums)) = (rest, of.1, biases.1, sums.get(pairs.len())) {
        one(out, sums[ROW], *of, *bias);
    }
}

/// Two rows less their zeros, the second of zeros where there is none.
fn widen<'w>(rows: &QuantisedRows<'_>, row: usize, columns: usize, widened: &'w mut [i16]) -> &'w [Activations] {
    let groups: &mut [Activations] = bytemuck::cast_slice_mut(&mut widened[..2 * columns]);
    for place in 0..2 {
        let (even, odd) = (2 * place, 2 * place + 1);
        let Some(step) = rows.steps.get(row + place) else {
            groups.iter_mut().for_each(|group| [group[even], group[odd]] = [0; 2]);
            continue;
        };
        let values = rows.values[(row + place) * rows.stride..][..columns].as_chunks::<4>().0;
        let zeros = step.zero.cast_unsigned() * 0x0001_0001;
        // Both halfwords are bytes, and so is what is subtracted: with the highest bits set, neither borrows from the
        // other.
        let less_zeros = |bytes: u32| ((bytes & 0x00ff_00ff | 0x8000_8000).wrapping_sub(zeros)) ^ 0x8000_8000;
        for (group, values) in groups.iter_mut().zip(values) {
            let word = u32::from_le_bytes(*values);
            group[even] = less_zeros(word);
            group[odd] = less_zeros(word >> 8);
        }
    }
    groups
}

/// What the assembler of [`tiles`] reads and changes, at the offsets that it names.
#[repr(C)]
struct Tiles {
    steps: usize,
    activations: *const Activations,
    sums: *mut [i32; 4],
    /// From the end of a row's columns to the row after the next.
    to_next: usize,
    pairs: usize,
}

/// For each pair of rows of weights, `row_bytes` apart: the sums of the first with rows 0 and 1 of the activations, and
/// of the second.
///
/// One piece of assembler: a tile needs every register, two of which no operand may name, and a compiler that is free
/// to move single instructions spills them.
fn tiles(activations: &[Activations], weights: &[u8], row_bytes: usize, columns: usize, sums: &mut [[i32; 4]]) {
    let steps = activations.len() / (COLUMNS / 4);
    assert!(columns == steps * COLUMNS && (columns <= row_bytes || row_bytes == 0));
    assert!(weights.len() >= (2 * sums.len() * row_bytes).max(columns));
    if steps == 0 || sums.is_empty() {
        return;
    }
    let to_next = (2 * row_bytes).wrapping_sub(columns);
    let activations = activations.as_ptr();
    let mut tiles = Tiles { steps, activations, sums: sums.as_mut_ptr(), to_next, pairs: sums.len() };
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
    // SAFETY: the processor has these instructions (`build.rs`). For each pair, of which `sums` has as many, each of
    // `steps` steps reads 16 bytes of both rows, which are in `weights` (checked above: the last pair ends with it, and
    // rows that are 0 bytes apart are one), and 64 of the activations, which begin at a word and have 16 bytes for 4
    // columns. r6 and r7 are given back as they were, and the stack with them. The flag Q is set on an overflow only,
    // which the bounds of the sums exclude.
    #[expect(unsafe_code, reason = "the intrinsics are not stable")]
    unsafe {
        asm!(
            "push {{r0, r6, r7}}",
            "3:",
            "ldr r4, [sp]",
            "ldrd r0, r1, [r4]",
            "mov r10, #0",
            "mov r11, #0",
            "mov r12, #0",
            "mov lr, #0",
            "2:",
            four_columns!(),
            four_columns!(),
            four_columns!(),
            four_columns!(),
            "subs r0, r0, #1",
            "bne 2b",
            "ldr r4, [sp]",
            "ldr r5, [r4, #8]",
            "stmia r5!, {{r10, r11, r12, lr}}",
            "str r5, [r4, #8]",
            "ldr r5, [r4, #12]",
            "add r2, r2, r5",
            "add r3, r3, r5",
            "ldr r5, [r4, #16]",
            "subs r5, r5, #1",
            "str r5, [r4, #16]",
            "bne 3b",
            "pop {{r0, r6, r7}}",
            inout("r0") &raw mut tiles => _,
            out("r1") _,
            inout("r2") weights.as_ptr() => _,
            inout("r3") weights.as_ptr().wrapping_add(row_bytes) => _,
            out("r4") _, out("r5") _, out("r8") _, out("r9") _,
            out("r10") _, out("r11") _, out("r12") _, out("lr") _,
        );
    }
}

/// `sum` and the products of the low and of the high halfwords.
#[inline(always)]
pub(in crate::integer) fn multiply_add(a: u32, b: u32, sum: i32) -> i32 {
    let result;
    // SAFETY: the processor has this instruction (`build.rs`); it only reads and writes the named registers, and the
    // flag Q on an overflow, which nothing here reads and the bounds of the sums exclude.
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
