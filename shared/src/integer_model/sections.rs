//! Walking over the sections of a model, in their order in the file.

use super::layers::{FloatTable, IntegerLinear, IntegerNorm, row_stride};

/// Sections begin at multiples of so many bytes.
pub(super) const SECTION_ALIGNMENT: usize = 16;

/// What is left of the content. Taking more than there is gives an empty
/// section and is remembered: [`Sections::taken`] says what was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sections<'a> {
    content: &'a [u8],
    /// Bytes asked for so far; beyond the content where it is too short.
    at: u64,
    /// The first byte of a gap that is not 0.
    pub dirty: Option<u64>,
}

impl<'a> Sections<'a> {
    pub fn new(content: &'a [u8]) -> Self {
        Self { content, at: 0, dirty: None }
    }

    /// Bytes that the sections taken so far need.
    pub fn taken(&self) -> u64 {
        self.at
    }

    /// The next `length` bytes; none where the content is too short.
    pub fn bytes(&mut self, length: u64) -> &'a [u8] {
        let start = self.at;
        let end = start.saturating_add(length);
        self.at = end.saturating_add(end.wrapping_neg() % SECTION_ALIGNMENT as u64);
        let part = |from: u64, to: u64| {
            self.content.get(usize::try_from(from).unwrap_or(usize::MAX)..usize::try_from(to).unwrap_or(usize::MAX))
        };
        let gap = part(end, self.at).unwrap_or(&[]);
        if let (None, Some(byte)) = (self.dirty, gap.iter().position(|byte| *byte != 0)) {
            self.dirty = Some(end + byte as u64);
        }
        part(start, end).unwrap_or(&[])
    }

    pub fn floats(&mut self, count: usize) -> FloatTable<'a> {
        let (values, _) = self.bytes(4 * count as u64).as_chunks::<4>();
        FloatTable { values }
    }

    /// Weights and their scales; the biases are elsewhere.
    pub fn matrix(&mut self, rows: usize, columns: usize) -> IntegerLinear<'a> {
        let weights = self.bytes(rows as u64 * row_stride(columns) as u64);
        let scales = self.floats(rows);
        IntegerLinear { rows, columns, weights, scales, biases: FloatTable { values: &[] } }
    }

    pub fn linear(&mut self, rows: usize, columns: usize) -> IntegerLinear<'a> {
        let matrix = self.matrix(rows, columns);
        IntegerLinear { biases: self.floats(rows), ..matrix }
    }

    pub fn norm(&mut self, width: usize) -> IntegerNorm<'a> {
        let eps = self.floats(1).iter().next().unwrap_or(0.0);
        IntegerNorm { eps, weight: self.floats(width), bias: self.floats(width) }
    }
}
