//! The gradient of a layer's weight, row by row, from the gradient at its outputs and its inputs.

use candle_core::{Result, Tensor};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use crate::executor::LayerGradient;
use crate::executor::operation::column_sum::column_sums;
use crate::executor::operation::{Values, on_fused_device, values};

/// The sum of squares of every row of the weight's gradient `D^T A`, `[out]`.
///
/// # Errors
/// If the device fails.
pub fn square_sums(gradient: &LayerGradient) -> Result<Vec<f64>> {
    let (tokens, outputs) = gradient.outputs.dims2()?;
    let inputs = gradient.inputs.dim(1)?;
    let gram = gram_is_cheaper(tokens, outputs, inputs);
    if !on_fused_device(&[&gradient.outputs, &gradient.inputs]) {
        return Ok(device_square_sums(gradient)?.to_vec1::<f32>()?.into_iter().map(f64::from).collect());
    }
    let (d_values, a_values) = (values(&gradient.outputs)?, values(&gradient.inputs)?);
    let (d, a) = (matrix(&d_values, tokens, outputs), matrix(&a_values, tokens, inputs));
    if !gram {
        let mut product = vec![0.0_f32; outputs * inputs];
        matmul(row_major(&mut product, outputs, inputs), Accum::Replace, d.transpose(), a, 1.0, Par::Seq);
        let square_sum = |row: &[f32]| row.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        return Ok(product.chunks_exact(inputs).map(square_sum).collect());
    }
    let mut gram = vec![0.0_f32; tokens * tokens];
    matmul(row_major(&mut gram, tokens, tokens), Accum::Replace, a, a.transpose(), 1.0, Par::Seq);
    let gram = MatRef::from_row_major_slice(&gram, tokens, tokens);
    let mut product = vec![0.0_f32; tokens * outputs];
    matmul(row_major(&mut product, tokens, outputs), Accum::Replace, gram, d, 1.0, Par::Seq);
    let mut sums = vec![0.0; outputs];
    for (token, row) in product.chunks_exact(outputs).enumerate() {
        for (output, (sum, &value)) in sums.iter_mut().zip(row).enumerate() {
            *sum += f64::from(value) * f64::from(d[(token, output)]);
        }
    }
    Ok(sums)
}

/// Adds the weight's gradient to `total`, `[out, in]`.
///
/// # Errors
/// If the device fails.
pub fn add_gradient(gradient: &LayerGradient, total: &mut [f32]) -> Result<()> {
    let (tokens, outputs) = gradient.outputs.dims2()?;
    let inputs = gradient.inputs.dim(1)?;
    if !on_fused_device(&[&gradient.outputs, &gradient.inputs]) {
        let product = device_product(gradient)?.flatten_all()?.to_vec1::<f32>()?;
        total.iter_mut().zip(product).for_each(|(total, value)| *total += value);
        return Ok(());
    }
    let (d_values, a_values) = (values(&gradient.outputs)?, values(&gradient.inputs)?);
    let (d, a) = (matrix(&d_values, tokens, outputs), matrix(&a_values, tokens, inputs));
    matmul(row_major(total, outputs, inputs), Accum::Add, d.transpose(), a, 1.0, Par::Seq);
    Ok(())
}

/// Whether `D[:, r]^T (A A^T) D[:, r]` takes fewer multiply-accumulates than the rows of `D^T A`.
///
/// Rows: `tokens * out * in` for the product and `out * in` for the squares. Gram:
/// `tokens^2 * in` for `A A^T`, `tokens^2 * out` for its product with `D`, `tokens * out` for the last sum.
fn gram_is_cheaper(tokens: usize, outputs: usize, inputs: usize) -> bool {
    let rows = (tokens + 1) * outputs * inputs;
    let gram = tokens * tokens * (inputs + outputs) + tokens * outputs;
    gram < rows
}

fn matrix<'a>(values: &'a Values, rows: usize, columns: usize) -> MatRef<'a, f32> {
    MatRef::from_row_major_slice_with_stride(values, rows, columns, values.row_stride())
}

fn row_major(values: &mut [f32], rows: usize, columns: usize) -> MatMut<'_, f32> {
    MatMut::from_row_major_slice_mut(values, rows, columns)
}

/// The weight's gradient `[out, in]`, left on the device. In f32 whatever the gradients are: their products leave the
/// range of f16, and their sums the digits of bf16.
///
/// # Errors
/// If the device fails.
pub fn device_product(gradient: &LayerGradient) -> Result<Tensor> {
    let outputs = wide(&gradient.outputs)?.t()?.contiguous()?;
    outputs.matmul(&wide(&gradient.inputs)?)
}

fn wide(tensor: &Tensor) -> Result<Tensor> {
    tensor.contiguous()?.to_dtype(candle_core::DType::F32)
}

/// As [`square_sums`], left on the device, in f32.
///
/// # Errors
/// If the device fails.
pub fn device_square_sums(gradient: &LayerGradient) -> Result<Tensor> {
    let (tokens, outputs) = gradient.outputs.dims2()?;
    composite_square_sums(gradient, gram_is_cheaper(tokens, outputs, gradient.inputs.dim(1)?))
}

fn composite_square_sums(gradient: &LayerGradient, gram: bool) -> Result<Tensor> {
    if gram {
        let (outputs, inputs) = (wide(&gradient.outputs)?, wide(&gradient.inputs)?);
        let product = inputs.matmul(&inputs.t()?)?.matmul(&outputs)?;
        column_sums(&(product * outputs)?)
    } else {
        device_product(gradient)?.sqr()?.sum(1)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Both forms against the definition, at sizes on both sides of the choice.
    #[test]
    fn both_forms_are_the_definition() {
        for (tokens, outputs, inputs) in [(3, 12, 10), (40, 12, 10), (1, 4, 6)] {
            let value = |i: usize| ((i * 37 + 11) % 23) as f32 / 23.0 - 0.4;
            let wide: Vec<f32> = (0..tokens * (outputs + 2)).map(value).collect();
            // The outputs are columns of a wider matrix, as the values in a packed gradient are.
            let wide = Tensor::from_vec(wide, (tokens, outputs + 2), &Device::Cpu).unwrap();
            let a: Vec<f32> = (0..tokens * inputs).map(|i| value(i + 5)).collect();
            let gradient = LayerGradient {
                outputs: wide.narrow(1, 2, outputs).unwrap(),
                inputs: Tensor::from_vec(a.clone(), (tokens, inputs), &Device::Cpu).unwrap(),
            };
            let d = gradient.outputs.to_vec2::<f32>().unwrap();
            let exact = |output: usize, input: usize| -> f64 {
                (0..tokens).map(|t| f64::from(d[t][output]) * f64::from(a[t * inputs + input])).sum()
            };
            let expected: Vec<f64> = (0..outputs).map(|r| (0..inputs).map(|c| exact(r, c).powi(2)).sum()).collect();
            assert_eq!(gram_is_cheaper(tokens, outputs, inputs), tokens <= 3);
            let composite = |gradient: &LayerGradient, gram: bool| -> Vec<f64> {
                let sums = composite_square_sums(gradient, gram).unwrap().to_vec1::<f32>().unwrap();
                sums.into_iter().map(f64::from).collect()
            };
            let all = [square_sums(&gradient).unwrap(), composite(&gradient, true), composite(&gradient, false)];
            for found in all {
                for (found, expected) in found.iter().zip(&expected) {
                    assert!((found - expected).abs() < 1e-5 * (1.0 + expected), "{found} {expected}");
                }
            }
            let mut total = vec![1.0; outputs * inputs];
            add_gradient(&gradient, &mut total).unwrap();
            for (index, total) in total.iter().enumerate() {
                assert!((f64::from(*total) - 1.0 - exact(index / inputs, index % inputs)).abs() < 1e-5);
            }
        }
    }
}
