//! The inner product of a tile: the code that the engine spends its life in.

use super::super::panel::{PANEL, PanelRow};
use super::super::simd::{MAX_TILE_ROWS, Simd};

/// A matrix in panels, as an operand or a part of one.
#[derive(Clone, Copy)]
pub(in super::super) struct Operand<'a> {
    pub data: &'a [PanelRow],
    /// Rows of each panel: the distance between panels.
    pub rows: usize,
}

/// A run of the inner dimension: columns of `a` from the start of a panel, and rows of `b`.
///
/// Kept heads are a list of such runs, a prefix of neurons is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Segment {
    pub a_panel: usize,
    pub b_row: usize,
    pub length: usize,
}

impl Segment {
    /// The first `length` of both operands.
    pub(in super::super) fn prefix(length: usize) -> Self {
        Self { a_panel: 0, b_row: 0, length }
    }
}

/// The sums of a tile, before bias and whatever follows.
pub(in super::super) struct Tile {
    pub rows: [[PanelRow; 2]; MAX_TILE_ROWS],
}

impl Default for Tile {
    fn default() -> Self {
        Self { rows: [[PanelRow::ZERO; 2]; MAX_TILE_ROWS] }
    }
}

/// Weights that the next tiles need, and which part of them to bring near while this tile is computed.
#[derive(Clone, Copy)]
pub(in super::super) struct Ahead {
    /// The first of their panels.
    pub panel: usize,
    pub part: usize,
    pub parts: usize,
}

/// Computes `rows` rows of `a`, from row `first`, times `panels` (1 or 2) panels of `b`, from `panel`.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a tile is a place in two matrices")]
pub(in super::super) fn fill<S: Simd>(
    simd: S,
    tile: &mut Tile,
    a: Operand,
    first: usize,
    rows: usize,
    b: Operand,
    panel: usize,
    panels: usize,
    segments: &[Segment],
    ahead: Option<Ahead>,
) {
    let b_panel = |panel: usize| &b.data[panel * b.rows..(panel + 1) * b.rows];
    let next = |side: usize| {
        let found = ahead.and_then(|ahead| {
            let start = (ahead.panel + side) * b.rows;
            Some((b.data.get(start..start + b.rows)?, ahead))
        });
        found.map_or(Next { rows: &[], from: 0, to: 0 }, |(rows, Ahead { part, parts, .. })| Next {
            rows,
            from: part * PANEL / parts,
            to: (part + 1) * PANEL / parts,
        })
    };
    if panels == 2 && S::TWO_PANELS {
        let next = [next(0), next(1)];
        fill_rows(simd, tile, a, first, rows, [b_panel(panel), b_panel(panel + 1)], next, 0, segments);
    } else {
        for side in 0..panels {
            fill_rows(simd, tile, a, first, rows, [b_panel(panel + side)], [next(side)], side, segments);
        }
    }
}

/// Rows of a later panel: of each sixteen, those from `from` to `to` are brought near.
#[derive(Clone, Copy)]
struct Next<'a> {
    rows: &'a [PanelRow],
    from: usize,
    to: usize,
}

#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a tile is a place in two matrices")]
fn fill_rows<S: Simd, const PANELS: usize>(
    simd: S,
    tile: &mut Tile,
    a: Operand,
    first: usize,
    rows: usize,
    b: [&[PanelRow]; PANELS],
    next: [Next; PANELS],
    side: usize,
    segments: &[Segment],
) {
    macro_rules! for_rows {
        ($($count:literal)*) => {
            match rows {
                $($count if $count <= S::TILE_ROWS => {
                    multiply::<S, $count, PANELS>(simd, tile, a, first, b, next, side, segments);
                })*
                _ => unreachable!("a tile of {rows} rows"),
            }
        };
    }
    for_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
}

/// A tile of `ROWS` rows and `PANELS` panels, its sums in registers.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a tile is a place in two matrices")]
#[allow(clippy::needless_range_loop, reason = "loops over constants are unrolled, so that sums become registers")]
fn multiply<S: Simd, const ROWS: usize, const PANELS: usize>(
    simd: S,
    tile: &mut Tile,
    a: Operand,
    first: usize,
    b: [&[PanelRow]; PANELS],
    next: [Next; PANELS],
    side: usize,
    segments: &[Segment],
) {
    let mut sums = [[simd.splat(0.0); PANELS]; ROWS];
    for segment in segments {
        let mut done = 0;
        while done < segment.length {
            let steps = (segment.length - done).min(PANEL);
            let a_start = (segment.a_panel + done / PANEL) * a.rows + first;
            let a_rows = &a.data[a_start..a_start + ROWS];
            let b_start = segment.b_row + done;
            let mut b_rows = [&b[0][..0]; PANELS];
            for panel in 0..PANELS {
                b_rows[panel] = &b[panel][b_start..b_start + steps];
            }
            for Next { rows, from, to } in next {
                let rows = rows.get(b_start + from..b_start + to.min(steps)).unwrap_or(&[]);
                rows.iter().for_each(|row| simd.prefetch(row));
            }
            for step in 0..steps {
                let mut columns = [simd.splat(0.0); PANELS];
                for panel in 0..PANELS {
                    columns[panel] = simd.load(&b_rows[panel][step].0);
                }
                for row in 0..ROWS {
                    let factor = simd.splat(a_rows[row].0[step]);
                    for panel in 0..PANELS {
                        sums[row][panel] = simd.mul_add(factor, columns[panel], sums[row][panel]);
                    }
                }
            }
            done += steps;
        }
    }
    for row in 0..ROWS {
        for panel in 0..PANELS {
            simd.store(sums[row][panel], &mut tile.rows[row][side + panel].0);
        }
    }
}
