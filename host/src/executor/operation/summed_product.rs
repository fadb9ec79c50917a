//! Elementwise products, summed over the tokens of each image.

use candle_core::{Device, Result, Tensor};

use super::column_sum::column_sums;
use super::vector::{NullaryFnOnce, vectorised};
use super::{Values, on_fused_device, values, widened};

/// The sum of `a * b` over the rows of each image, `[images, width]`; both are `[images * tokens, width]`. Of half types
/// it is f32.
///
/// # Errors
/// If the shapes disagree.
pub fn summed_product(a: &Tensor, b: &Tensor, images: usize) -> Result<Tensor> {
    let (rows, width) = a.dims2()?;
    if b.dims2()? != (rows, width) || !rows.is_multiple_of(images) {
        candle_core::bail!("product of {:?} and {:?} over {images} images", a.shape(), b.shape());
    }
    if !on_fused_device(&[a, b]) {
        let products = (widened(a)? * widened(b)?)?.reshape((images, rows / images, width))?;
        return column_sums(&products);
    }
    let mut out = vec![0.0; images * width];
    vectorised(SummedProduct { a: &values(a)?, b: &values(b)?, tokens: rows / images, width, out: &mut out });
    Tensor::from_vec(out, (images, width), &Device::Cpu)
}

struct SummedProduct<'a> {
    a: &'a Values<'a>,
    b: &'a Values<'a>,
    tokens: usize,
    width: usize,
    out: &'a mut [f32],
}

impl NullaryFnOnce for SummedProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (a, b) = (&**self.a, &**self.b);
        for (image, out) in self.out.chunks_exact_mut(self.width).enumerate() {
            for row in image * self.tokens..(image + 1) * self.tokens {
                let a = &a[row * self.a.row_stride()..][..self.width];
                let b = &b[row * self.b.row_stride()..][..self.width];
                for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                    *out += a * b;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;

    #[test]
    fn sums_of_half_types_have_the_digits_of_f32() {
        // From 256 on bf16 knows even numbers only, and from 2,048 on so does f16.
        for dtype in [DType::BF16, DType::F16] {
            let ones = Tensor::ones((3001, 2), dtype, &Device::Cpu).unwrap();
            let sum = summed_product(&ones, &ones, 1).unwrap();
            assert_eq!(sum.to_vec2::<f32>().unwrap(), [[3001.0; 2]], "{dtype:?}");
            let product = super::super::multiplied(&ones.t().unwrap(), &ones).unwrap();
            assert_eq!(product.dtype(), dtype);
        }
    }

    #[test]
    fn both_forms_sum_the_tokens_of_each_image_apart() {
        let matrix = |first: i64| {
            let values = (0..4 * 6).map(|i| ((i * 7 + first) % 11 - 5) as f32).collect();
            Tensor::from_vec(values, (4, 6), &Device::Cpu).unwrap()
        };
        // Rows that stand apart, and rows that do not.
        let (a, b) = (matrix(0).narrow(1, 2, 3).unwrap(), matrix(3).narrow(1, 0, 3).unwrap().contiguous().unwrap());
        let fused = summed_product(&a, &b, 2).unwrap().to_vec2::<f32>().unwrap();
        let wide = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap();
        let composite = summed_product(&wide(&a), &wide(&b), 2).unwrap();
        assert_eq!(fused, composite.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap());
        let (a, b) = (a.to_vec2::<f32>().unwrap(), b.to_vec2::<f32>().unwrap());
        assert_eq!(fused[1][2], a[2][2] * b[2][2] + a[3][2] * b[3][2]);
        assert!(summed_product(&matrix(0), &matrix(1), 3).is_err());
    }
}
