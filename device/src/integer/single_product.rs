//! One matrix product alone, so that its instructions can be counted and its bits compared.

use headroom_shared::integer_model::IntegerLinear;

use super::arena::WIDENED_TOKENS;
use super::product::{self, Product, finish};
use super::quantise::{QuantisedRows, Step, quantised_stride};

/// Rows of quantised activations times a layer, with the kernel of an inference.
pub struct SingleProduct<'a> {
    layer: IntegerLinear<'a>,
    values: &'a [u8],
    steps: &'a [Step],
    widened: &'a mut [i16],
    out: &'a mut [f32],
}

impl<'a> SingleProduct<'a> {
    /// Of `rows` rows whose numbers `activation` gives, with other scales and zeros in each row. `arena` is the memory
    /// that it works in; `None` if it is too small.
    pub fn new(
        layer: IntegerLinear<'a>,
        rows: usize,
        mut activation: impl FnMut() -> u8,
        arena: &'a mut [u32],
    ) -> Option<Self> {
        let stride = quantised_stride(layer.columns());
        let (values, arena) = arena.split_at_mut_checked(rows * stride / size_of::<u32>())?;
        let (steps, arena) = arena.split_at_mut_checked(rows * size_of::<Step>() / size_of::<u32>())?;
        let (widened, arena) = arena.split_at_mut_checked(WIDENED_TOKENS * stride / 2)?;
        let (out, _) = arena.split_at_mut_checked(rows * layer.rows())?;
        let (values, steps): (&mut [u8], &mut [Step]) =
            (bytemuck::cast_slice_mut(values), bytemuck::cast_slice_mut(steps));
        for ((row, values), step) in values.chunks_exact_mut(stride).enumerate().zip(steps.iter_mut()) {
            *step = Step { scale: 1.0 / (row + 1) as f32, zero: activation().into() };
            values.fill(step.zero as u8);
            values[..layer.columns()].fill_with(&mut activation);
        }
        let (widened, out) = (bytemuck::cast_slice_mut(widened), bytemuck::cast_slice_mut(out));
        Some(Self { layer, values, steps, widened, out })
    }

    /// Multiply-accumulates of [`run`](Self::run).
    #[must_use]
    pub fn macs(&self) -> u64 {
        (self.steps.len() * self.layer.rows() * self.layer.columns()) as u64
    }

    /// Computes the product.
    #[inline(never)]
    pub fn run(&mut self) {
        let count = self.layer.rows();
        let columns = self.layer.columns();
        let rows = QuantisedRows { values: self.values, stride: quantised_stride(columns), steps: self.steps, columns };
        let product = Product {
            layer: self.layer,
            first: 0,
            count,
            rows,
            out: self.out,
            stride: count,
            add: false,
            widened: self.widened,
        };
        product::in_place(product);
    }

    /// Results of the last [`run`](Self::run) whose bits are not those of the definition: none, if the kernel is right.
    #[must_use]
    pub fn wrong(&self) -> usize {
        let (stride, outputs) = (quantised_stride(self.layer.columns()), self.layer.rows());
        let rows = self.values.chunks_exact(stride).zip(self.steps).zip(self.out.chunks_exact(outputs));
        let wrong_of_row = |((values, step), out): ((&[u8], &Step), &[f32])| {
            let is_wrong = |output: &usize| {
                let weights = self.layer.row(*output).iter().map(|weight| i32::from(weight.cast_signed()));
                let sum =
                    values.iter().zip(weights).map(|(value, weight)| (i32::from(*value) - step.zero) * weight).sum();
                let scale = step.scale * self.layer.scales().get(*output);
                finish(sum, scale, self.layer.biases().get(*output)).to_bits() != out[*output].to_bits()
            };
            (0..outputs).filter(is_wrong).count()
        };
        rows.map(wrong_of_row).sum()
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_has_the_bits_of_the_definition() {
        let mut state = 1_u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for (rows, columns, outputs) in [(1, 1, 1), (2, 16, 3), (5, 70, 33), (4, 192, 40)] {
            let mut weights = vec![0; outputs * headroom_shared::integer_model::row_stride(columns)];
            for row in weights.chunks_exact_mut(headroom_shared::integer_model::row_stride(columns)) {
                row[..columns].fill_with(&mut byte);
            }
            let scales: Vec<_> = (0..outputs).map(|output| (0.5 + output as f32).to_le_bytes()).collect();
            let layer = IntegerLinear::new(columns, &weights, &scales, &scales).unwrap();
            let mut arena = vec![0; 4096];
            let mut product = SingleProduct::new(layer, rows, &mut byte, &mut arena).unwrap();
            assert!(product.wrong() > 0, "nothing was computed");
            product.run();
            assert_eq!((product.wrong(), product.macs()), (0, (rows * columns * outputs) as u64));
        }
    }
}
