//! Matrix products: `start + a b`.

use candle_core::{Result, Tensor};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::{is_fused, multiplied, values};

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// As it stands in the product.
    Straight,
    /// With rows and columns exchanged.
    Transposed,
}

impl Stored {
    /// The other one.
    #[must_use]
    pub fn flipped(self) -> Self {
        match self {
            Self::Straight => Self::Transposed,
            Self::Transposed => Self::Straight,
        }
    }
}

/// What a product is added to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// Added to every row, `[columns]`.
    pub bias: Option<&'a Tensor>,
    /// Added as it is, `[rows, columns]`.
    pub matrix: Option<&'a Tensor>,
}

/// `start + a b` with `a` `[rows, inner]`, contiguous, and `b` `[inner, columns]`, stored as `b_stored` says.
///
/// # Errors
/// If the shapes disagree.
pub fn product(start: Start, a: &Tensor, b: &Tensor, b_stored: Stored) -> Result<Tensor> {
    let (rows, inner) = a.dims2()?;
    let (columns, b_inner) = match b_stored {
        Stored::Straight => (b.dim(1)?, b.dim(0)?),
        Stored::Transposed => (b.dim(0)?, b.dim(1)?),
    };
    if inner != b_inner {
        candle_core::bail!("product of {rows} x {inner} with {b_inner} x {columns}");
    }
    let operands = [Some(a), Some(b), start.bias, start.matrix];
    if !is_fused(&operands.into_iter().flatten().collect::<Vec<_>>()) {
        return composite(start, a, b, b_stored);
    }
    let mut out = started(start, rows, columns)?;
    let (a_values, b_values) = (values(a)?, values(b)?);
    let b = match b_stored {
        Stored::Straight => MatRef::from_row_major_slice(&b_values, inner, columns),
        Stored::Transposed => MatRef::from_row_major_slice(&b_values, columns, inner).transpose(),
    };
    let a = MatRef::from_row_major_slice(&a_values, rows, inner);
    let accumulate = if start.bias.is_some() || start.matrix.is_some() { Accum::Add } else { Accum::Replace };
    matmul(MatMut::from_row_major_slice_mut(&mut out, rows, columns), accumulate, a, b, 1.0, Par::Seq);
    Tensor::from_vec(out, (rows, columns), &candle_core::Device::Cpu)
}

/// `matrix` `[rows, columns]` with `bias` added to every row.
///
/// # Errors
/// If the shapes disagree.
pub fn shifted(matrix: &Tensor, bias: &Tensor) -> Result<Tensor> {
    if !is_fused(&[matrix, bias]) {
        return matrix.broadcast_add(bias);
    }
    let (rows, columns) = matrix.dims2()?;
    let start = Start { bias: Some(bias), matrix: Some(matrix) };
    Tensor::from_vec(started(start, rows, columns)?, (rows, columns), &candle_core::Device::Cpu)
}

/// The memory of the result, holding what the product is added to.
fn started(start: Start, rows: usize, columns: usize) -> Result<Vec<f32>> {
    let fits = |tensor: Option<&Tensor>, length: usize| tensor.is_none_or(|tensor| tensor.elem_count() == length);
    if !fits(start.bias, columns) || !fits(start.matrix, rows * columns) {
        candle_core::bail!("a product of {rows} x {columns} cannot be added to {start:?}");
    }
    let mut out = match start.matrix {
        Some(matrix) => values(matrix)?.to_vec(),
        None => match start.bias {
            Some(bias) => return Ok(values(bias)?.repeat(rows)),
            None => return Ok(vec![0.0; rows * columns]),
        },
    };
    if let Some(bias) = start.bias {
        let bias = values(bias)?;
        for row in out.chunks_exact_mut(columns) {
            for (out, bias) in row.iter_mut().zip(&*bias) {
                *out += bias;
            }
        }
    }
    Ok(out)
}

fn composite(start: Start, a: &Tensor, b: &Tensor, b_stored: Stored) -> Result<Tensor> {
    let mut out = match b_stored {
        Stored::Straight => multiplied(a, b)?,
        Stored::Transposed => multiplied(a, &b.t()?)?,
    };
    if let Some(bias) = start.bias {
        out = out.broadcast_add(bias)?;
    }
    match start.matrix {
        Some(matrix) => matrix + out,
        None => Ok(out),
    }
}
