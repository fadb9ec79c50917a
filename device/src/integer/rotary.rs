//! Rotary positions of DINOv3 (arXiv 2508.10104): queries and keys of patch tokens are turned by their place.

use headroom_shared::integer_model::FloatTable;

use super::kernel::Kernel;

/// Turns patch tokens of a head where they are: `a cos - b sin` and `b cos + a sin` of its two halves.
pub(super) struct Turn<'a> {
    /// `[patches, dims]`, the first patches of the frame.
    pub rows: &'a mut [f32],
    pub dims: usize,
    /// For each patch the cosines of half a head, and the sines.
    pub table: FloatTable<'a>,
}

impl Kernel for Turn<'_> {
    #[inline(always)]
    fn run(self) {
        let half = self.dims / 2;
        let table = self.table.bytes().chunks_exact(self.dims);
        for (row, table) in self.rows.chunks_exact_mut(self.dims).zip(table) {
            let ((a, b), (cosines, sines)) = (row.split_at_mut(half), table.split_at(half));
            for (((a, b), cosine), sine) in a.iter_mut().zip(b).zip(cosines).zip(sines) {
                let (cosine, sine) = (f32::from_le_bytes(*cosine), f32::from_le_bytes(*sine));
                (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
            }
        }
    }
}
