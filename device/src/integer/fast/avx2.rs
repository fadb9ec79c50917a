//! AVX2: sixteen products of halfwords, added up by twos, in one instruction.
//!
//! `VPMADDWD` on weights that are widened as they are loaded and on activations less their zeros, which are widened
//! once: exact, where `VPMADDUBSW` on bytes would saturate.
#![allow(unsafe_code, reason = "the intrinsics of std::arch, guarded by the token")]

use std::arch::x86_64::*;

use headroom_shared::integer_model::IntegerModel;

use super::packed::{GROUP, Group, PANEL, PackedMatrices};
use crate::integer::forward::Execution;
use crate::integer::kernel::Kernel;
use crate::integer::product::{Product, finish};

/// Proof that the processor has the instructions, and the weights.
#[derive(Debug)]
pub(super) struct Avx2 {
    matrices: PackedMatrices,
}

impl Avx2 {
    pub(super) fn detect(model: &IntegerModel<'_>) -> Option<Self> {
        is_x86_feature_detected!("avx2").then(|| Self { matrices: PackedMatrices::new(model) })
    }
}

impl Execution for Avx2 {
    fn run(&self, kernel: impl Kernel) {
        // SAFETY: `self` exists only where `detect` found AVX2.
        unsafe { run(kernel) }
    }

    fn product(&self, product: Product<'_>) {
        // SAFETY: `self` exists only where `detect` found AVX2.
        unsafe { multiply(&self.matrices, product) }
    }
}

#[target_feature(enable = "avx2")]
fn run(kernel: impl Kernel) {
    kernel.run();
}

/// Rows of a tile: the sums of a panel are 4 of 16 registers for each.
const ROWS: usize = 2;

#[target_feature(enable = "avx2")]
fn multiply(matrices: &PackedMatrices, product: Product<'_>) {
    let Product { layer, first, count, rows, out, stride, add, widened } = product;
    let groups = rows.columns.div_ceil(GROUP);
    let columns = groups * GROUP;
    let matrix = matrices.get(&layer);
    for row in (0..rows.steps.len()).step_by(ROWS) {
        let steps = &rows.steps[row..(row + ROWS).min(rows.steps.len())];
        for (place, step) in steps.iter().enumerate() {
            let values = &rows.values[(row + place) * rows.stride..][..columns];
            for (wide, value) in widened[place * columns..][..columns].iter_mut().zip(values) {
                *wide = i16::from(*value) - step.zero as i16;
            }
        }
        widened[steps.len() * columns..ROWS * columns].fill(0);
        let activations = &widened[..ROWS * columns];
        let mut panels = matrix.map(|matrix| matrix.panels(first));
        for start in (0..count).step_by(PANEL) {
            let panel = panels.as_mut().and_then(Iterator::next).map_or(&[][..], |panel| &panel[..groups]);
            let sums = sums(activations, columns, panel);
            let outputs = start..(start + PANEL).min(count);
            let scales = layer.scales().part(first + start, outputs.len());
            let biases = layer.biases().part(first + start, outputs.len());
            for (place, (step, sums)) in steps.iter().zip(sums).enumerate() {
                let out = &mut out[(row + place) * stride..][outputs.clone()];
                for (((out, sum), scale), bias) in out.iter_mut().zip(sums).zip(scales.iter()).zip(biases.iter()) {
                    let value = finish(sum, step.scale * scale, bias);
                    *out = if add { *out + value } else { value };
                }
            }
        }
    }
}

/// The sums of a panel for two rows of widened activations.
#[target_feature(enable = "avx2")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "loops over constants are unrolled, so that sums become registers")]
fn sums(activations: &[i16], columns: usize, panel: &[Group]) -> [[i32; PANEL]; ROWS] {
    /// Vectors of 16 halfwords that a group widens to: each has two sums for each of 4 outputs.
    const VECTORS: usize = 4;
    assert!(activations.len() >= ROWS * columns && panel.len() * GROUP <= columns);
    let mut sums = [[_mm256_setzero_si256(); VECTORS]; ROWS];
    for (group, weights) in panel.iter().enumerate() {
        let mut fours = [_mm256_setzero_si256(); ROWS];
        for row in 0..ROWS {
            // SAFETY: a row has `columns` halfwords, and the group ends among them.
            let four =
                unsafe { activations.as_ptr().add(row * columns + group * GROUP).cast::<i64>().read_unaligned() };
            fours[row] = _mm256_set1_epi64x(four);
        }
        for vector in 0..VECTORS {
            // SAFETY: a group has 64 bytes.
            let bytes = unsafe { _mm_load_si128(weights.0.as_ptr().cast::<__m128i>().add(vector)) };
            let wide = _mm256_cvtepi8_epi16(bytes);
            for row in 0..ROWS {
                sums[row][vector] = _mm256_add_epi32(sums[row][vector], _mm256_madd_epi16(wide, fours[row]));
            }
        }
    }
    sums.map(|vectors| {
        let mut all = [0; PANEL];
        for (vector, all) in vectors.into_iter().zip(all.as_chunks_mut::<4>().0) {
            let mut twos = [0_i32; 8];
            // SAFETY: the array has as many bytes as the vector.
            unsafe { _mm256_storeu_si256(twos.as_mut_ptr().cast(), vector) };
            for (sum, two) in all.iter_mut().zip(twos.as_chunks::<2>().0) {
                *sum = two[0].wrapping_add(two[1]);
            }
        }
        all
    })
}
