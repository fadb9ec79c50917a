//! AVX-512 with VNNI: 64 products of bytes, or 32 of halfwords, and their sums by fours or twos, in one instruction.
//!
//! `VPDPBUSD` multiplies unsigned activations with signed weights. What their zeros add up to is `zero` times the sum
//! of the weights of a row, which is computed along with the products: it depends on how many columns are kept.
#![allow(unsafe_code, reason = "the intrinsics of std::arch, guarded by the token")]

use std::arch::x86_64::*;

use headroom_shared::integer_model::IntegerModel;

use super::packed::{GROUP, Group, PANEL, PackedMatrices};
use crate::integer::attention::{Attend, Layout, keys_in_pairs, padded_dims, padded_tokens, pairs, softmax};
use crate::integer::forward::Execution;
use crate::integer::kernel::Kernel;
use crate::integer::product::Product;

/// Rows of a tile: with two panels, their sums are 24 of 32 registers.
const TILE_ROWS: usize = 12;

/// Proof that the processor has the instructions, and the weights.
#[derive(Debug)]
pub(super) struct Avx512Vnni {
    matrices: PackedMatrices,
}

impl Avx512Vnni {
    pub(super) fn detect(model: &IntegerModel<'_>) -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni");
        all.then(|| Self { matrices: PackedMatrices::new(model) })
    }
}

impl Execution for Avx512Vnni {
    fn run(&self, kernel: impl Kernel) {
        // SAFETY: `self` exists only where `detect` found the instructions.
        unsafe { run(kernel) }
    }

    fn product(&self, product: Product<'_>) {
        // SAFETY: `self` exists only where `detect` found the instructions.
        unsafe { multiply(&self.matrices, product) }
    }

    fn keys(&self, rows: &mut [i16], out: &mut [i16], dims: usize, tokens: usize) {
        keys_in_pairs(rows, dims, tokens, out);
    }

    fn layout(&self) -> Layout {
        Layout::Pairs
    }

    fn attend(&self, head: Attend<'_>) {
        // SAFETY: `self` exists only where `detect` found the instructions.
        unsafe { attend(head) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn run(kernel: impl Kernel) {
    kernel.run();
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn multiply(matrices: &PackedMatrices, mut product: Product<'_>) {
    let columns = product.rows.columns;
    let groups = columns.div_ceil(GROUP);
    let matrix = matrices.get(&product.layer);
    let mut panels = matrix.map(|matrix| matrix.panels(product.first));
    let mut next = || panels.as_mut().and_then(Iterator::next).map_or(&[][..], |panel| &panel[..groups]);
    let mut output = 0;
    while output < product.count {
        if product.count - output > PANEL {
            two_or_one_panels(&mut product, output, [next(), next()]);
            output += 2 * PANEL;
        } else {
            two_or_one_panels(&mut product, output, [next()]);
            output += PANEL;
        }
    }
}

/// All rows for the outputs of some panels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn two_or_one_panels<const PANELS: usize>(product: &mut Product<'_>, output: usize, panels: [&[Group]; PANELS]) {
    let count = product.rows.steps.len();
    let finish = Finish::new(product, output, row_sums(panels));
    let mut row = 0;
    macro_rules! tile {
        ($($rows:literal)*) => {
            match count - row {
                $($rows => { finish.write(product, output, row, sums::<$rows, PANELS>(product, row, panels)); })*
                _ => { finish.write(product, output, row, sums::<TILE_ROWS, PANELS>(product, row, panels)); }
            }
        };
    }
    while row < count {
        tile!(1 2 3 4 5 6 7 8 9 10 11);
        row += TILE_ROWS;
    }
}

type Sums<const ROWS: usize, const PANELS: usize> = [[__m512i; PANELS]; ROWS];

/// The sums of products of `ROWS` rows from `first` on.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
#[allow(clippy::needless_range_loop, reason = "loops over constants are unrolled, so that sums become registers")]
fn sums<const ROWS: usize, const PANELS: usize>(
    product: &Product<'_>,
    first: usize,
    panels: [&[Group]; PANELS],
) -> Sums<ROWS, PANELS> {
    let groups = panels[0].len();
    let stride = product.rows.stride;
    let rows = &product.rows.values[first * stride..(first + ROWS) * stride];
    assert!(groups * GROUP <= stride && panels.iter().all(|panel| panel.len() == groups));
    let mut sums = [[_mm512_setzero_si512(); PANELS]; ROWS];
    for group in 0..groups {
        let mut weights = [_mm512_setzero_si512(); PANELS];
        for panel in 0..PANELS {
            // SAFETY: the panel has as many groups, each of 64 bytes.
            weights[panel] = unsafe { _mm512_load_si512(panels[panel].as_ptr().add(group).cast()) };
        }
        for row in 0..ROWS {
            // SAFETY: `rows` has as many rows of `stride` bytes, and a row at least so many groups.
            let four = unsafe { rows.as_ptr().add(row * stride + group * GROUP).cast::<i32>().read_unaligned() };
            let activations = _mm512_set1_epi32(four);
            for panel in 0..PANELS {
                sums[row][panel] = _mm512_dpbusd_epi32(sums[row][panel], activations, weights[panel]);
            }
        }
    }
    sums
}

/// The sum of the weights of each output. Several partial sums wait for no one.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn row_sums<const PANELS: usize>(panels: [&[Group]; PANELS]) -> [__m512i; PANELS] {
    const PARTS: usize = 4;
    let ones = _mm512_set1_epi8(1);
    let mut all = [_mm512_setzero_si512(); PANELS];
    for (panel, all) in panels.into_iter().zip(&mut all) {
        let mut sums = [_mm512_setzero_si512(); PARTS];
        for groups in panel.chunks(PARTS) {
            for (sum, group) in sums.iter_mut().zip(groups) {
                // SAFETY: a group has 64 bytes.
                let weights = unsafe { _mm512_load_si512(group.0.as_ptr().cast()) };
                *sum = _mm512_dpbusd_epi32(*sum, ones, weights);
            }
        }
        for sum in sums {
            *all = _mm512_add_epi32(*all, sum);
        }
    }
    all
}

/// What makes outputs of sums: for each of the panels' outputs.
struct Finish<const PANELS: usize> {
    row_sums: [__m512i; PANELS],
    scales: [__m512; PANELS],
    biases: [__m512; PANELS],
    /// The lanes that are outputs.
    masks: [__mmask16; PANELS],
}

impl<const PANELS: usize> Finish<PANELS> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    fn new(product: &Product<'_>, output: usize, row_sums: [__m512i; PANELS]) -> Self {
        let mut finish = Self {
            row_sums,
            scales: [_mm512_setzero_ps(); PANELS],
            biases: [_mm512_setzero_ps(); PANELS],
            masks: [0; PANELS],
        };
        for panel in 0..PANELS {
            let start = output + panel * PANEL;
            let lanes = product.count.saturating_sub(start).min(PANEL);
            let (mut scales, mut biases) = ([0.0; PANEL], [0.0; PANEL]);
            let first = product.first + start;
            scales.iter_mut().zip(product.layer.scales().part(first, lanes).iter()).for_each(|(to, from)| *to = from);
            biases.iter_mut().zip(product.layer.biases().part(first, lanes).iter()).for_each(|(to, from)| *to = from);
            // SAFETY: both arrays have 16 values.
            (finish.scales[panel], finish.biases[panel]) =
                unsafe { (_mm512_loadu_ps(scales.as_ptr()), _mm512_loadu_ps(biases.as_ptr())) };
            finish.masks[panel] = ((1_u32 << lanes) - 1) as __mmask16;
        }
        finish
    }

    /// As [`crate::integer::product::finish`] for all lanes.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
    #[inline]
    fn write<const ROWS: usize>(
        &self,
        product: &mut Product<'_>,
        output: usize,
        first: usize,
        sums: Sums<ROWS, PANELS>,
    ) {
        for (row, sums) in sums.into_iter().enumerate() {
            let step = product.rows.steps[first + row];
            let (scale, zero) = (_mm512_set1_ps(step.scale), _mm512_set1_epi32(step.zero));
            let out = &mut product.out[(first + row) * product.stride..][..product.count];
            for (panel, sum) in sums.into_iter().enumerate() {
                let out = &mut out[output + panel * PANEL..];
                assert!(out.len() >= PANEL || self.masks[panel] >> out.len() == 0);
                let sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(zero, self.row_sums[panel]));
                let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(scale, self.scales[panel]));
                let mut value = _mm512_add_ps(scaled, self.biases[panel]);
                if product.add {
                    // SAFETY: the lanes of the mask are in `out`.
                    let before = unsafe { _mm512_maskz_loadu_ps(self.masks[panel], out.as_ptr()) };
                    value = _mm512_add_ps(before, value);
                }
                // SAFETY: the lanes of the mask are in `out`.
                unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), self.masks[panel], value) };
            }
        }
    }
}

/// Vectors of scores that are computed together.
const TOGETHER: usize = 4;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn attend(head: Attend<'_>) {
    let padded = padded_tokens(head.tokens);
    let query_pairs = pairs(head.query_dims) / 2;
    let (width, vectors) = (padded_dims(head.value_dims), padded_dims(head.value_dims) / PANEL);
    let keys = &head.keys[..2 * query_pairs * padded];
    let values = &head.values[..padded * width];
    let scores = &mut head.scores[..padded];
    let attention = &mut head.attention[..padded];
    for (query, query_scale) in head.query_scales.iter().enumerate() {
        let query_row = &head.queries[2 * query * query_pairs..][..2 * query_pairs];
        let scale = query_scale / head.root;
        let mut start = 0;
        while start < head.tokens {
            if head.tokens - start > 2 * PANEL && padded - start >= TOGETHER * PANEL {
                score::<TOGETHER>(query_row, keys, padded, start, head.key_scales, scale, scores);
                start += TOGETHER * PANEL;
            } else {
                score::<2>(query_row, keys, padded, start, head.key_scales, scale, scores);
                start += 2 * PANEL;
            }
        }
        let sum = softmax(&mut scores[..head.tokens], head.log_sizes, attention);
        let scale = head.value_scale / sum as f32;
        let out = &mut head.out[query * head.stride..][..head.value_dims];
        let mut vector = 0;
        while vector < vectors {
            let part = &mut out[vector * PANEL..];
            match vectors - vector {
                1 => mix::<1>(attention, values, width, vector, head.tokens, scale, part),
                2 => mix::<2>(attention, values, width, vector, head.tokens, scale, part),
                3 => mix::<3>(attention, values, width, vector, head.tokens, scale, part),
                _ => mix::<4>(attention, values, width, vector, head.tokens, scale, part),
            }
            vector += 4;
        }
    }
}

/// The scores of a query with `VECTORS * 16` keys from `start` on.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn score<const VECTORS: usize>(
    query: &[i16],
    keys: &[i16],
    padded: usize,
    start: usize,
    key_scales: &[f32],
    scale: f32,
    scores: &mut [f32],
) {
    let mut sums = [_mm512_setzero_si512(); VECTORS];
    assert!(start + VECTORS * PANEL <= padded && keys.len() >= query.len() * padded && scores.len() >= padded);
    for (pair, numbers) in query.as_chunks::<2>().0.iter().enumerate() {
        let numbers = _mm512_set1_epi32(bytemuck::cast(*numbers));
        for (vector, sum) in sums.iter_mut().enumerate() {
            // SAFETY: there are `padded` pairs for each pair of the query, and the vector ends among them.
            let keys =
                unsafe { _mm512_loadu_si512(keys.as_ptr().add(2 * (pair * padded + start + vector * PANEL)).cast()) };
            *sum = _mm512_dpwssd_epi32(*sum, numbers, keys);
        }
    }
    for (vector, sum) in sums.into_iter().enumerate() {
        let first = start + vector * PANEL;
        let lanes = key_scales.len().saturating_sub(first).min(PANEL);
        let mask = ((1_u32 << lanes) - 1) as __mmask16;
        // SAFETY: the lanes of the mask are in `key_scales`, and all lanes in `scores`.
        unsafe {
            let scales = _mm512_maskz_loadu_ps(mask, key_scales.as_ptr().wrapping_add(first));
            let scales = _mm512_mul_ps(_mm512_set1_ps(scale), scales);
            _mm512_storeu_ps(scores.as_mut_ptr().add(first), _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scales));
        }
    }
}

/// `VECTORS * 16` dimensions of the values, from vector `first` on, weighted by `attention`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn mix<const VECTORS: usize>(
    attention: &[i16],
    values: &[i16],
    width: usize,
    first: usize,
    tokens: usize,
    scale: f32,
    out: &mut [f32],
) {
    let mut sums = [_mm512_setzero_si512(); VECTORS];
    let pairs = &attention.as_chunks::<2>().0[..tokens.div_ceil(2)];
    assert!((first + VECTORS) * PANEL <= width && values.len() >= 2 * pairs.len() * width);
    for (pair, numbers) in pairs.iter().enumerate() {
        let numbers = _mm512_set1_epi32(bytemuck::cast(*numbers));
        for (vector, sum) in sums.iter_mut().enumerate() {
            // SAFETY: there are `width` pairs for each pair of tokens, and the vector ends among them.
            let values = unsafe {
                _mm512_loadu_si512(values.as_ptr().add(2 * (pair * width + (first + vector) * PANEL)).cast())
            };
            *sum = _mm512_dpwssd_epi32(*sum, numbers, values);
        }
    }
    for (sum, out) in sums.into_iter().zip(out.chunks_mut(PANEL)) {
        let mask = ((1_u32 << out.len()) - 1) as __mmask16;
        let value = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(scale));
        // SAFETY: the lanes of the mask are in `out`.
        unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, value) };
    }
}
