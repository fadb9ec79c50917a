//! NEON, with the dot product where the processor has it (Cortex-A76 and A78AE, Neoverse) and without.
//!
//! `SDOT` adds up sixteen products of bytes by fours. Processors of Armv8.0 (Cortex-A57, A72) multiply to halfwords
//! and add pairs of them to words, exactly. Both multiply signed bytes: 128 is taken from activations, and what that
//! and their zeros come to is a number times the sum of the weights of a row, as with AVX-512.
#![allow(unsafe_code, reason = "instructions that only some processors have, and loads of vectors")]

use std::arch::aarch64::*;
use std::arch::asm;

use headroom_shared::integer_model::IntegerModel;

use super::packed::{GROUP, Group, PANEL, PackedMatrices};
use crate::integer::forward::Execution;
use crate::integer::kernel::Kernel;
use crate::integer::product::{Product, finish};

/// The weights; with `DOT`, also proof that the processor has `SDOT`.
#[derive(Debug)]
pub(super) struct Neon<const DOT: bool> {
    matrices: PackedMatrices,
}

impl<const DOT: bool> Neon<DOT> {
    pub(super) fn detect(model: &IntegerModel<'_>) -> Option<Self> {
        let found = std::arch::is_aarch64_feature_detected!("neon")
            && (!DOT || std::arch::is_aarch64_feature_detected!("dotprod"));
        found.then(|| Self { matrices: PackedMatrices::new(model) })
    }
}

impl<const DOT: bool> Execution for Neon<DOT> {
    fn run(&self, kernel: impl Kernel) {
        // NEON is part of the target, so that the compiler uses it everywhere.
        kernel.run();
    }

    fn product(&self, product: Product<'_>) {
        multiply(&self.matrices, product, |rows, panel| {
            if DOT {
                // SAFETY: `self` exists only where `detect` found the instruction.
                unsafe { dot::sums(rows, panel) }
            } else {
                widening::sums(rows, panel)
            }
        });
    }
}

/// Rows of a tile: with `SDOT` the sums of a panel are 4 of 32 registers for each.
const ROWS: usize = 4;
/// Vectors of a group: each has the weights of 4 outputs.
const VECTORS: usize = 4;

/// The activations of a tile. Where there are fewer rows, the last is there several times.
type Rows<'a> = [&'a [u8]; ROWS];
type Sums = [[i32; PANEL]; ROWS];

fn multiply(matrices: &PackedMatrices, product: Product<'_>, sums: impl Fn(Rows<'_>, &[Group]) -> Sums) {
    let Product { layer, first, count, rows, out, stride, add, .. } = product;
    let groups = rows.columns.div_ceil(GROUP);
    let mut panels = matrices.get(&layer).map(|matrix| matrix.panels(first));
    for start in (0..count).step_by(PANEL) {
        let panel = panels.as_mut().and_then(Iterator::next).map_or(&[][..], |panel| &panel[..groups]);
        let row_sums = row_sums(panel);
        let outputs = start..(start + PANEL).min(count);
        let scales = layer.scales().part(first + start, outputs.len());
        let biases = layer.biases().part(first + start, outputs.len());
        for row in (0..rows.steps.len()).step_by(ROWS) {
            let steps = &rows.steps[row..(row + ROWS).min(rows.steps.len())];
            let tile = std::array::from_fn(|place| {
                let place = row + place.min(steps.len() - 1);
                &rows.values[place * rows.stride..(place + 1) * rows.stride]
            });
            for (place, (step, sums)) in steps.iter().zip(sums(tile, panel)).enumerate() {
                let out = &mut out[(row + place) * stride..][outputs.clone()];
                let totals = sums.iter().zip(&row_sums).map(|(sum, weights)| sum + weights * (128 - step.zero));
                for (((out, total), scale), bias) in out.iter_mut().zip(totals).zip(scales.iter()).zip(biases.iter()) {
                    let value = finish(total, step.scale * scale, bias);
                    *out = if add { *out + value } else { value };
                }
            }
        }
    }
}

/// The sum of the weights of each output.
fn row_sums(panel: &[Group]) -> [i32; PANEL] {
    let mut sums = [0_i32; PANEL];
    for group in panel {
        for (sum, weights) in sums.iter_mut().zip(group.0.as_chunks::<GROUP>().0) {
            *sum += weights.iter().map(|weight| i32::from(weight.cast_signed())).sum::<i32>();
        }
    }
    sums
}

/// The weights of one vector of a group.
#[inline(always)]
fn weights(group: &Group, vector: usize) -> int8x16_t {
    let bytes: &[u8; 16] = &group.0.as_chunks().0[vector];
    // SAFETY: the array has as many bytes as the vector.
    unsafe { vreinterpretq_s8_u8(vld1q_u8(bytes.as_ptr())) }
}

/// Sixteen activations less 128.
#[inline(always)]
fn activations(row: &[u8], group: usize) -> int8x16_t {
    let bytes = &row[group * GROUP..][..16];
    // SAFETY: the slice has as many bytes as the vector.
    unsafe { vreinterpretq_s8_u8(veorq_u8(vld1q_u8(bytes.as_ptr()), vdupq_n_u8(0x80))) }
}

/// Groups whose activations are one vector.
const TOGETHER: usize = 4;

mod dot {
    use super::*;

    /// The sums of products of four rows.
    #[target_feature(enable = "neon,dotprod")]
    #[allow(clippy::needless_range_loop, reason = "loops over constants are unrolled, so that sums become registers")]
    pub(super) fn sums(rows: Rows<'_>, panel: &[Group]) -> Sums {
        let mut sums = [[zero(); VECTORS]; ROWS];
        for (index, groups) in panel.chunks(TOGETHER).enumerate() {
            let fours = rows.map(|row| activations(row, index * TOGETHER));
            if let [a, b, c, d] = groups {
                add_group::<0>(&mut sums, a, fours);
                add_group::<1>(&mut sums, b, fours);
                add_group::<2>(&mut sums, c, fours);
                add_group::<3>(&mut sums, d, fours);
            } else {
                for (place, weights) in groups.iter().enumerate() {
                    match place {
                        0 => add_group::<0>(&mut sums, weights, fours),
                        1 => add_group::<1>(&mut sums, weights, fours),
                        _ => add_group::<2>(&mut sums, weights, fours),
                    }
                }
            }
        }
        sums.map(|vectors| bytemuck::cast(vectors.map(words)))
    }

    /// Adds the products with activations `LANE` of each four.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    fn add_group<const LANE: i32>(sums: &mut [[int32x4_t; VECTORS]; ROWS], group: &Group, fours: [int8x16_t; ROWS]) {
        for vector in 0..VECTORS {
            let weights = weights(group, vector);
            for row in 0..ROWS {
                // SAFETY: the processor has the instruction, as the function's features say; it reads and writes the
                // named registers only.
                unsafe {
                    asm!(
                        "sdot {sum:v}.4s, {weights:v}.16b, {four:v}.4b[{lane}]",
                        sum = inout(vreg) sums[row][vector],
                        weights = in(vreg) weights,
                        four = in(vreg) fours[row],
                        lane = const LANE,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
            }
        }
    }
}

mod widening {
    use super::*;

    /// The sums of products of four rows, two rows at a time: their sums by twos are 16 of 32 registers.
    pub(super) fn sums([a, b, c, d]: Rows<'_>, panel: &[Group]) -> Sums {
        let ([a, b], [c, d]) = (two_rows([a, b], panel), two_rows([c, d], panel));
        [a, b, c, d]
    }

    #[allow(clippy::needless_range_loop, reason = "loops over constants are unrolled, so that sums become registers")]
    fn two_rows(rows: [&[u8]; 2], panel: &[Group]) -> [[i32; PANEL]; 2] {
        let mut twos = [[[zero(); 2]; VECTORS]; 2];
        for (index, groups) in panel.chunks(TOGETHER).enumerate() {
            let fours = rows.map(|row| words_of_bytes(activations(row, index * TOGETHER)));
            for (place, group) in groups.iter().enumerate() {
                for vector in 0..VECTORS {
                    let weights = weights(group, vector);
                    for row in 0..2 {
                        let [low, high] = &mut twos[row][vector];
                        // SAFETY: NEON is part of the target.
                        unsafe {
                            let four = vreinterpretq_s8_s32(vdupq_n_s32(fours[row][place]));
                            *low = vpadalq_s16(*low, vmull_s8(vget_low_s8(weights), vget_low_s8(four)));
                            *high = vpadalq_s16(*high, vmull_high_s8(weights, four));
                        }
                    }
                }
            }
        }
        // SAFETY: NEON is part of the target.
        twos.map(|vectors| bytemuck::cast(vectors.map(|[low, high]| words(unsafe { vpaddq_s32(low, high) }))))
    }

    fn words_of_bytes(bytes: int8x16_t) -> [i32; 4] {
        // SAFETY: NEON is part of the target.
        words(unsafe { vreinterpretq_s32_s8(bytes) })
    }
}

#[inline(always)]
fn zero() -> int32x4_t {
    // SAFETY: NEON is part of the target.
    unsafe { vdupq_n_s32(0) }
}

#[inline(always)]
fn words(vector: int32x4_t) -> [i32; 4] {
    let mut words = [0; 4];
    // SAFETY: the array has as many bytes as the vector.
    unsafe { vst1q_s32(words.as_mut_ptr(), vector) };
    words
}
