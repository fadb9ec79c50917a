//! What follows a product, while its tile is still in the nearest cache.

use super::super::activation::activate;
use super::super::panel::{PANEL, PanelRow};
use super::super::shared::Shared;
use super::super::simd::Simd;
use super::Tile;
use crate::model::description::Activation;

/// Where the result goes, and what becomes of it on the way. `y` is `a b + bias`; its row 0 is the first that is
/// multiplied.
///
/// Products of several threads may write to one buffer at the same time, as long as each has rows or panels of its
/// own: whoever makes them sees to that.
pub(in super::super) enum Target<'a> {
    /// `out = y`, in panels of `rows` rows.
    Panels { out: Shared<'a, PanelRow>, rows: usize },
    /// `out = activation(y)`, in panels of `rows` rows.
    Activated { out: Shared<'a, PanelRow>, rows: usize, activation: Activation },
    /// Even panels of `y` are gates, odd ones what they gate: `out = activation(gate) * y`.
    Gated { out: Shared<'a, PanelRow>, rows: usize, activation: Activation },
    /// `stream += scale * y`, row-major of `width` columns. Panel 0 of `y` is panel `first_panel` of the stream; the
    /// scale is of `y`.
    Added { stream: Shared<'a, f32>, width: usize, first_panel: usize, scale: Option<&'a [PanelRow]> },
}

impl<'a> Target<'a> {
    /// `stream += y`, row-major of `width` columns.
    pub(in super::super) fn added(stream: &'a mut [f32], width: usize) -> Self {
        Self::Added { stream: Shared::new(stream), width, first_panel: 0, scale: None }
    }
}

/// Finishes the `rows` rows from `first` of the panels from `panel`, as many as there are biases.
#[inline(always)]
pub(super) fn finish<S: Simd>(
    simd: S,
    target: &mut Target,
    tile: &Tile,
    first: usize,
    rows: usize,
    panel: usize,
    bias: &[PanelRow],
) {
    match target {
        Target::Panels { out, rows: out_rows } => {
            for (side, bias) in bias.iter().enumerate() {
                let out = part_of(*out, (panel + side) * *out_rows + first, rows);
                let bias = simd.load(&bias.0);
                for (out, sums) in out.iter_mut().zip(&tile.rows) {
                    simd.store(simd.add(simd.load(&sums[side].0), bias), &mut out.0);
                }
            }
        }
        Target::Activated { out, rows: out_rows, activation } => {
            for (side, bias) in bias.iter().enumerate() {
                let out = part_of(*out, (panel + side) * *out_rows + first, rows);
                let bias = simd.load(&bias.0);
                for (out, sums) in out.iter_mut().zip(&tile.rows) {
                    let value = simd.add(simd.load(&sums[side].0), bias);
                    simd.store(activate(simd, *activation, value), &mut out.0);
                }
            }
        }
        Target::Gated { out, rows: out_rows, activation } => {
            let out = part_of(*out, panel / 2 * *out_rows + first, rows);
            let [gate_bias, bias] = [simd.load(&bias[0].0), simd.load(&bias[1].0)];
            for (out, sums) in out.iter_mut().zip(&tile.rows) {
                let gate = simd.add(simd.load(&sums[0].0), gate_bias);
                let value = simd.add(simd.load(&sums[1].0), bias);
                simd.store(simd.mul(activate(simd, *activation, gate), value), &mut out.0);
            }
        }
        Target::Added { stream, width, first_panel, scale } => {
            for (side, bias) in bias.iter().enumerate() {
                let column = (*first_panel + panel + side) * PANEL;
                let columns = (*width - column).min(PANEL);
                let bias = simd.load(&bias.0);
                let scale = match scale {
                    Some(scale) => simd.load(&scale[panel + side].0),
                    None => simd.splat(1.0),
                };
                for (row, sums) in tile.rows[..rows].iter().enumerate() {
                    let start = (first + row) * *width + column;
                    let value = simd.add(simd.load(&sums[side].0), bias);
                    add_to(simd, part_of(*stream, start, columns), value, scale);
                }
            }
        }
    }
}

/// Rows of a panel of the result, or columns of a row of the stream.
#[inline(always)]
#[expect(unsafe_code, reason = "products of several threads write to one buffer")]
fn part_of<T>(out: Shared<'_, T>, first: usize, count: usize) -> &mut [T] {
    // SAFETY: a target's maker sees to it that no other thread has these rows of this panel, and
    // this thread has no other part of the buffer.
    unsafe { out.part(first..first + count) }
}

/// `out += scale * value` for up to sixteen columns.
#[inline(always)]
fn add_to<S: Simd>(simd: S, out: &mut [f32], value: S::Lanes, scale: S::Lanes) {
    if let Ok(out) = <&mut [f32; PANEL]>::try_from(&mut *out) {
        simd.store(simd.mul_add(value, scale, simd.load(out)), out);
    } else {
        let mut padded = [0.0; PANEL];
        padded[..out.len()].copy_from_slice(out);
        simd.store(simd.mul_add(value, scale, simd.load(&padded)), &mut padded);
        out.copy_from_slice(&padded[..out.len()]);
    }
}
