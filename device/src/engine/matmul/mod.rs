//! Matrix products over panels, with what follows them fused in.
//!
//! `a` has the rows that flow through the model (tokens), `b` the packed weights. Rows go in tiles
//! whose sums stay in registers; a tile is two panels wide. Every sum runs over the inner dimension
//! in one order, whatever the tile: a row's result depends neither on the rows beside it nor on
//! the tiling, so that an image alone and in a batch give the same bits, and so do a prefix of
//! the weights and the same weights cut.

mod finish;
mod tile;

pub(super) use finish::Target;
use finish::finish;
pub(super) use tile::{Ahead, Operand, Segment, Tile, fill};

use super::panel::{PanelRow, even_parts};
use super::simd::{Kernel, Simd};

/// `a b + bias`, and what follows.
pub(super) struct Product<'a> {
    pub a: Operand<'a>,
    /// Rows of `a` to multiply.
    pub first_row: usize,
    pub rows: usize,
    pub b: Operand<'a>,
    /// Panels of `b` (and columns of the result) to compute.
    pub panels: usize,
    /// The inner dimension.
    pub segments: &'a [Segment],
    /// Added to every row: one row for each panel of `b`.
    pub bias: &'a [PanelRow],
    pub target: Target<'a>,
}

impl Kernel for Product<'_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let mut tile = Tile::default();
        let mut panel = 0;
        while panel < self.panels {
            let count = (self.panels - panel).min(2);
            let parts = self.rows.div_ceil(S::TILE_ROWS);
            for (part, (first, rows)) in even_parts(self.rows, S::TILE_ROWS).enumerate() {
                let ahead = Some(Ahead { panel: panel + count, part, parts });
                let first_row = self.first_row + first;
                fill(simd, &mut tile, self.a, first_row, rows, self.b, panel, count, self.segments, ahead);
                let bias = &self.bias[panel..panel + count];
                finish(simd, &mut self.target, &tile, first, rows, panel, bias);
            }
            panel += count;
        }
    }
}

#[cfg(test)]
mod tests;
