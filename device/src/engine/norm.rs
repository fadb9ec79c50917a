//! LayerNorm of token rows, into panels (for the product that follows) or rows.

use super::error::EngineError;
use super::pack::Tensors;
use super::panel::{PANEL, PanelRow, pack_row};
use super::shared::Shared;
use super::simd::{InstructionSet, Kernel, Simd};
use crate::model::description::LayerNorm;

#[derive(Clone, Debug)]
pub(super) struct PackedNorm {
    weight: Vec<PanelRow>,
    bias: Vec<PanelRow>,
    eps: f32,
}

impl PackedNorm {
    pub(super) fn new(tensors: Tensors, norm: &LayerNorm, width: usize) -> Result<Self, EngineError> {
        let (weight, bias) = tensors.norm(norm, width)?;
        Ok(Self { weight: pack_row(weight), bias: pack_row(bias), eps: norm.eps as f32 })
    }
}

/// Where normalised rows go.
pub(super) enum NormTarget<'a> {
    /// Panels of `rows` rows, from row `first`. No other thread may have these rows.
    Panels { out: Shared<'a, PanelRow>, rows: usize, first: usize },
    /// Row-major, as the input.
    Rows(&'a mut [f32]),
}

/// Normalises each row of `width` columns in `input`.
pub(super) struct Normalise<'a> {
    pub norm: &'a PackedNorm,
    pub input: &'a [f32],
    pub width: usize,
    /// Room for one row.
    pub row: &'a mut [PanelRow],
    pub target: NormTarget<'a>,
}

impl Kernel for Normalise<'_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let row = &mut self.row[..self.norm.weight.len()];
        for (index, input) in self.input.chunks_exact(self.width).enumerate() {
            normalise_row(simd, self.norm, input, row);
            match &mut self.target {
                NormTarget::Panels { out, rows, first } => {
                    for (panel, values) in row.iter().enumerate() {
                        let place = panel * *rows + *first + index;
                        // SAFETY: no other thread has this row, and this one has no other part.
                        #[expect(unsafe_code, reason = "rows of several threads go to one buffer")]
                        let out = unsafe { out.part(place..place + 1) };
                        out[0] = *values;
                    }
                }
                NormTarget::Rows(out) => {
                    let out = &mut out[index * self.width..(index + 1) * self.width];
                    for (out, values) in out.chunks_mut(PANEL).zip(row.iter()) {
                        out.copy_from_slice(&values.0[..out.len()]);
                    }
                }
            }
        }
    }
}

/// Normalises `rows` of `width` columns where they are, by way of `row`.
pub(super) fn normalise_in_place(
    set: InstructionSet,
    norm: &PackedNorm,
    width: usize,
    rows: &mut [f32],
    row: &mut [PanelRow],
    normal: &mut [PanelRow],
) {
    for values in rows.chunks_exact_mut(width) {
        let target = NormTarget::Panels { out: Shared::new(normal), rows: 1, first: 0 };
        set.run(Normalise { norm, input: values, width, row, target });
        for (values, panel) in values.chunks_mut(PANEL).zip(normal.iter()) {
            values.copy_from_slice(&panel.0[..values.len()]);
        }
    }
}

/// The variance is taken about the mean in a second pass: it cannot lose its digits.
#[inline(always)]
fn normalise_row<S: Simd>(simd: S, norm: &PackedNorm, input: &[f32], row: &mut [PanelRow]) {
    let width = input.len() as f32;
    let mut sum = simd.splat(0.0);
    for (row, input) in row.iter_mut().zip(input.chunks(PANEL)) {
        if let Ok(input) = <&[f32; PANEL]>::try_from(input) {
            row.0 = *input;
        } else {
            row.0 = [0.0; PANEL];
            row.0[..input.len()].copy_from_slice(input);
        }
        sum = simd.add(sum, simd.load(&row.0));
    }
    let mean = simd.sum(sum) / width;
    // The columns that pad the last panel must not add to the variance.
    if let (Some(last), tail @ 1..) = (row.last_mut(), input.len() % PANEL) {
        last.0[tail..].fill(mean);
    }
    let mean = simd.splat(mean);
    let mut squares = simd.splat(0.0);
    for row in row.iter() {
        let centred = simd.sub(simd.load(&row.0), mean);
        squares = simd.mul_add(centred, centred, squares);
    }
    let scale = simd.splat(1.0 / (simd.sum(squares) / width + norm.eps).sqrt());
    for ((row, weight), bias) in row.iter_mut().zip(&norm.weight).zip(&norm.bias) {
        let normal = simd.mul(simd.sub(simd.load(&row.0), mean), scale);
        simd.store(simd.mul_add(normal, simd.load(&weight.0), simd.load(&bias.0)), &mut row.0);
    }
}
