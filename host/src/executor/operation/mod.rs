//! The arithmetic of a Vision Transformer, forward and backward.
//!
//! Every operation has two forms that compute the same function:
//!
//! * fused: for contiguous f32 tensors on the CPU. One pass over the memory, vectorised for the
//!   instruction set found at run time, matrix products by `faer`, all in the calling thread.
//!   Callers work in parallel over images;
//! * composite: candle's own tensor operations, for CUDA and for every other type. The fused
//!   forms are invisible to candle's autograd, so a tensor that candle tracks takes this one too.
//!
//! Tokens are matrices `[rows, width]`: all tokens of all images of a batch, image by image.

pub mod activation;
pub mod attention;
pub mod column_sum;
pub mod layer_norm;
pub mod product;
pub mod rotary;
pub mod summed_product;
pub mod token_merging;
mod vector;

use std::ops::{Deref, Range};

use candle_core::{DType, Device, Result, Storage, StorageRef, Tensor};

/// Whether the fused form applies to all of `tensors`.
pub(crate) fn is_fused(tensors: &[&Tensor]) -> bool {
    on_fused_device(tensors) && tensors.iter().all(|tensor| tensor.is_contiguous() && !tensor.track_op())
}

/// Whether there are fused forms where `tensors` are.
pub(crate) fn on_fused_device(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| matches!(tensor.device(), Device::Cpu) && tensor.dtype() == DType::F32)
}

/// The values of a CPU matrix, without a copy. Rows may stand apart, values in a row may not.
pub(crate) struct Values<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
    row_stride: usize,
}

/// Borrows the values of `tensor`, which is f32, on the CPU and contiguous, or a matrix with strided rows.
///
/// # Errors
/// If it is something else.
pub(crate) fn values(tensor: &Tensor) -> Result<Values<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let (range, row_stride) = match (layout.contiguous_offsets(), layout.dims(), layout.stride()) {
        (Some((start, end)), dims, _) => (start..end, dims.last().copied().unwrap_or(1)),
        (None, &[rows, columns], &[stride, 1]) if rows > 0 => {
            let start = layout.start_offset();
            (start..start + (rows - 1) * stride + columns, stride)
        }
        _ => candle_core::bail!("fused operation on strided values {layout:?}"),
    };
    match &*storage {
        Storage::Cpu(cpu) => cpu.as_slice::<f32>()?,
        _ => candle_core::bail!("fused operation on a device"),
    };
    Ok(Values { storage, range, row_stride })
}

impl Values<'_> {
    /// Values from the start of one row to the start of the next.
    pub(crate) fn row_stride(&self) -> usize {
        self.row_stride
    }
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(cpu) => cpu.as_slice::<f32>().map_or(&[], |all| &all[self.range.clone()]),
            _ => &[],
        }
    }
}

/// `tensor` in a type in which sums over a row are safe: half types are widened to f32.
pub(crate) fn widened(tensor: &Tensor) -> Result<Tensor> {
    match tensor.dtype() {
        DType::F16 | DType::BF16 => tensor.to_dtype(DType::F32),
        _ => Ok(tensor.clone()),
    }
}

/// The matrix product `a b`, summed in f32 or wider whatever the operands are. A GPU does so by itself; candle's CPU
/// kernels know no bf16, so half types are widened there.
pub(crate) fn multiplied(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match (a.device(), a.dtype()) {
        (Device::Cpu, DType::F16 | DType::BF16) => widened(a)?.matmul(&widened(b)?)?.to_dtype(a.dtype()),
        _ => a.matmul(b),
    }
}
