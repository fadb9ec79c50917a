//! Attention of one head over the tokens of one image.
//!
//! Scores exist only for one tile of queries at a time and stay in the nearest cache. The sums of
//! the softmax divide the result instead of the scores.

use super::activation::exp;
use super::matmul::{Operand, Segment, Tile, fill};
use super::panel::{PANEL, PanelRow, even_parts, panels};
use super::shared::Shared;
use super::simd::{Kernel, MAX_TILE_ROWS, Simd};

/// `out = softmax(q k^T scale) v` of one head.
pub(super) struct HeadAttention<'a> {
    /// `[queries, query_dims]`: its rows from `first_query` are the image's.
    pub queries: Operand<'a>,
    pub first_query: usize,
    pub query_count: usize,
    /// Keys transposed: `[query_dims, tokens]`.
    pub keys: Operand<'a>,
    /// `[tokens, value_dims]`: its rows from `first_value` are the image's.
    pub values: Operand<'a>,
    pub first_value: usize,
    pub tokens: usize,
    /// Columns of queries and keys that are compared.
    pub query_dims: usize,
    /// Columns of the values that are wanted.
    pub value_dims: usize,
    /// Multiplies the scores.
    pub scale: f32,
    /// Added to the scaled scores of each key: logarithms of how many patches a token stands for, in panels of one row.
    pub log_sizes: Option<&'a [PanelRow]>,
    /// Room for a tile of scores, `[MAX_TILE_ROWS, tokens]`.
    pub scores: &'a mut [PanelRow],
    /// The head's panels of the result from panel `first_panel`, `out_rows` rows each; row `first_out` is the first
    /// query's. No other thread may have these rows of these panels.
    pub out: Shared<'a, PanelRow>,
    pub first_panel: usize,
    pub out_rows: usize,
    pub first_out: usize,
}

impl Kernel for HeadAttention<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut tile = Tile::default();
        let mut inverse_sums = [0.0; MAX_TILE_ROWS];
        let key_panels = panels(self.tokens);
        let across_head = [Segment::prefix(self.query_dims)];
        let across_tokens = [Segment { a_panel: 0, b_row: self.first_value, length: self.tokens }];
        for (part, rows) in even_parts(self.query_count, S::TILE_ROWS) {
            let first = self.first_query + part;
            for panel in (0..key_panels).step_by(2) {
                let count = (key_panels - panel).min(2);
                fill(simd, &mut tile, self.queries, first, rows, self.keys, panel, count, &across_head, None);
                copy_panels(simd, &tile, rows, count, &mut self.scores[panel * rows..]);
            }
            let scores = &mut self.scores[..key_panels * rows];
            for (row, inverse_sum) in inverse_sums[..rows].iter_mut().enumerate() {
                let scores = &mut scores[row..];
                if let Some(log_sizes) = self.log_sizes {
                    weigh(simd, scores, rows, log_sizes, self.scale.recip());
                }
                *inverse_sum = exponentials(simd, scores, rows, self.tokens, self.scale);
            }
            let weights = Operand { data: scores, rows };
            let value_panels = panels(self.value_dims);
            for panel in (0..value_panels).step_by(2) {
                let count = (value_panels - panel).min(2);
                fill(simd, &mut tile, weights, 0, rows, self.values, panel, count, &across_tokens, None);
                for side in 0..count {
                    let start = (self.first_panel + panel + side) * self.out_rows + self.first_out + part;
                    // SAFETY: no other thread has these rows, and this one has no other part.
                    #[expect(unsafe_code, reason = "heads and queries of several threads write to one buffer")]
                    let out = unsafe { self.out.part(start..start + rows) };
                    for ((out, sums), &inverse_sum) in out.iter_mut().zip(&tile.rows).zip(&inverse_sums) {
                        let value = simd.mul(simd.load(&sums[side].0), simd.splat(inverse_sum));
                        simd.store(value, &mut out.0);
                    }
                }
            }
        }
    }
}

/// Copies `count` panels of a tile to panels of `rows` rows.
#[inline(always)]
fn copy_panels<S: Simd>(simd: S, tile: &Tile, rows: usize, count: usize, out: &mut [PanelRow]) {
    for side in 0..count {
        for (out, sums) in out[side * rows..][..rows].iter_mut().zip(&tile.rows) {
            simd.store(simd.load(&sums[side].0), &mut out.0);
        }
    }
}

/// Adds `factor log_size` to a row of scores (every `stride`-th panel row).
#[inline(always)]
fn weigh<S: Simd>(simd: S, scores: &mut [PanelRow], stride: usize, log_sizes: &[PanelRow], factor: f32) {
    let factor = simd.splat(factor);
    for (row, log_size) in scores.iter_mut().step_by(stride).zip(log_sizes) {
        simd.store(simd.mul_add(simd.load(&log_size.0), factor, simd.load(&row.0)), &mut row.0);
    }
}

/// Replaces a row of scores (every `stride`-th panel row, `columns` values) by
/// `e^(scale (score - largest))`; returns the inverse of their sum.
#[inline(always)]
fn exponentials<S: Simd>(simd: S, scores: &mut [PanelRow], stride: usize, columns: usize, scale: f32) -> f32 {
    let last = columns.div_ceil(PANEL) - 1;
    // The columns that pad the last panel must be neither the largest nor part of the sum.
    let tail = columns - last * PANEL;
    scores[last * stride].0[tail..].fill(f32::NEG_INFINITY);
    let mut largest = simd.splat(f32::NEG_INFINITY);
    for row in scores.iter().step_by(stride) {
        largest = simd.max(largest, simd.load(&row.0));
    }
    let scale_lanes = simd.splat(scale);
    let offset = simd.splat(-scale * simd.largest(largest));
    let mut sum = simd.splat(0.0);
    for row in scores.iter_mut().step_by(stride) {
        let value = exp(simd, simd.mul_add(simd.load(&row.0), scale_lanes, offset));
        sum = simd.add(sum, value);
        simd.store(value, &mut row.0);
    }
    1.0 / simd.sum(sum)
}

/// Transposes rows `first..first + tokens` of `[rows, dims]` keys to `[dims, tokens]`.
pub(super) fn transpose(keys: Operand, first: usize, tokens: usize, dims: usize, out: &mut [PanelRow]) {
    for (panel, out) in out.chunks_exact_mut(dims).take(panels(tokens)).enumerate() {
        let token = first + panel * PANEL;
        let count = (first + tokens - token).min(PANEL);
        for (part, out) in out.chunks_mut(PANEL).enumerate() {
            let rows = &keys.data[part * keys.rows + token..][..count];
            for (dimension, out) in out.iter_mut().enumerate() {
                for (out, row) in out.0.iter_mut().zip(rows) {
                    *out = row.0[dimension];
                }
            }
        }
    }
}
