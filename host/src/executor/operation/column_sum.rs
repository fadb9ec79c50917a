//! Sums over the rows of matrices.

use candle_core::{D, Result, Tensor};

/// The sum of the rows of every matrix, `[.., rows, width]` to `[.., width]`, in the type of `matrices`, which are
/// contiguous.
///
/// It is a product with ones: on a GPU candle adds up what is not contiguous one value at a time, with one thread block
/// for each column.
///
/// # Errors
/// If the device fails.
pub fn column_sums(matrices: &Tensor) -> Result<Tensor> {
    let mut shape = matrices.dims().to_vec();
    let rows = matrices.dim(D::Minus2)?;
    let last = shape.len() - 2;
    shape.truncate(last);
    shape.extend([1, rows]);
    Tensor::ones(shape, matrices.dtype(), matrices.device())?.matmul(matrices)?.squeeze(D::Minus2)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn rows_are_added_up_in_every_matrix() {
        let matrices = Tensor::arange(0.0_f32, 12.0, &Device::Cpu).unwrap().reshape((2, 3, 2)).unwrap();
        let found = column_sums(&matrices).unwrap();
        assert_eq!(found.to_vec2::<f32>().unwrap(), [[6.0, 9.0], [24.0, 27.0]]);
        let one = matrices.get(1).unwrap().to_dtype(DType::F64).unwrap();
        assert_eq!(column_sums(&one).unwrap().to_vec1::<f64>().unwrap(), [24.0, 27.0]);
    }
}
