//! The one matrix layout of the engine: panels of 16 columns.
//!
//! A matrix of `rows` x `columns` is stored as `columns / 16` panels (rounded up) one after the
//! other; a panel holds its 16 columns of row 0, then of row 1, and so on, each aligned to a cache
//! line. Why one layout for weights and activations:
//! - an operand on the right is read one row of a panel per multiply-add, without a gap;
//! - an operand on the left is read 16 columns of a few rows at a time, without a gap either, so
//!   that no width of a model meets the conflicts of a power-of-two stride;
//! - a result has the layout that the next product reads: values become the right operand of the
//!   attention product without a copy;
//! - the first columns are a prefix of the storage (neurons of the first MLP layer, heads), and
//!   the first rows are a prefix of each panel (inputs of the second layer and of the projection).

/// Columns of a panel: one AVX-512 vector, two of AVX2, four of NEON.
pub(super) const PANEL: usize = 16;

/// Sixteen consecutive columns of one row.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct PanelRow(pub [f32; PANEL]);

impl PanelRow {
    pub(super) const ZERO: Self = Self([0.0; PANEL]);
}

/// Panels that `columns` need.
pub(super) fn panels(columns: usize) -> usize {
    columns.div_ceil(PANEL)
}

/// Zeroed storage of `rows` x `columns`.
pub(super) fn storage(rows: usize, columns: usize) -> Vec<PanelRow> {
    vec![PanelRow::ZERO; rows * panels(columns)]
}

/// Copies a vector into panels of one row, padded with zeros.
pub(super) fn pack_row(row: &[f32]) -> Vec<PanelRow> {
    let mut packed = storage(1, row.len());
    write_row(&mut packed, 1, 0, row);
    packed
}

/// Writes `values` as the row `row` of the matrix in `matrix`, whose panels have `rows` rows.
pub(super) fn write_row(matrix: &mut [PanelRow], rows: usize, row: usize, values: &[f32]) {
    for (panel, chunk) in values.chunks(PANEL).enumerate() {
        matrix[panel * rows + row].0[..chunk.len()].copy_from_slice(chunk);
    }
}

/// Divides `0..total` into the fewest parts of at most `most`, as even as possible: `(first, length)`.
///
/// Even parts keep the last part from being a sliver that wastes the registers.
pub(super) fn even_parts(total: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let parts = total.div_ceil(most);
    (0..parts).map(move |part| even_part(total, parts, part))
}

/// One of `parts` parts of `0..total`, as even as possible: `(first, length)`.
pub(crate) fn even_part(total: usize, parts: usize, part: usize) -> (usize, usize) {
    let (length, longer) = (total / parts, total % parts);
    (part * length + part.min(longer), length + usize::from(part < longer))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn even_parts_cover_everything_once(total in 0_usize..500, most in 1_usize..40) {
            let mut next = 0;
            for (first, length) in even_parts(total, most) {
                prop_assert_eq!(first, next);
                prop_assert!(length >= 1 && length <= most);
                next += length;
            }
            prop_assert_eq!(next, total);
        }
    }
}
