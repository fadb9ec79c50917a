//! Reading weights from safetensors: f32, f16 and bf16, widened to f32.

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::weights::{Tensor, Weights, WeightsError};

impl Weights {
    /// All floating-point tensors of a safetensors file; tensors of integers
    /// (such as the position ids of old CLIP files) are left out.
    ///
    /// # Errors
    /// If `bytes` is not a complete safetensors file.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, WeightsError> {
        let file =
            SafeTensors::deserialize(bytes).map_err(|error| WeightsError::Malformed { reason: error.to_string() })?;
        let mut weights = Self::default();
        for (name, view) in file.tensors() {
            if let Some(data) = widen(view.dtype(), view.data()) {
                weights.insert(name, Tensor { shape: view.shape().to_vec(), data });
            }
        }
        Ok(weights)
    }
}

/// The values of little-endian `bytes` as f32, exactly; `None` if `dtype` is
/// not one of f32, f16 and bf16.
#[must_use]
pub fn widen(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let pairs = bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    match dtype {
        Dtype::F32 => Some(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
        Dtype::F16 => Some(pairs.map(|pair| f16::from_le_bytes(pair).to_f32()).collect()),
        Dtype::BF16 => Some(pairs.map(|pair| bf16::from_le_bytes(pair).to_f32()).collect()),
        _ => None,
    }
}

/// The little-endian bytes of `values`, rounded to `dtype`: F16, BF16, or else F32.
#[must_use]
pub fn narrow(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        Dtype::BF16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bit_values_widen_exactly() {
        let halves: Vec<u8> = [1.5f32, -0.25, 65504.0].iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(widen(Dtype::F16, &halves), Some(vec![1.5, -0.25, 65504.0]));
        let brains: Vec<u8> = [1.5f32, -3.0e38].iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(widen(Dtype::BF16, &brains), Some(vec![1.5, bf16::from_f32(-3.0e38).to_f32()]));
        assert_eq!(widen(Dtype::I64, &[0; 8]), None);
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2], &[0; 8]).unwrap();
        let bytes = safetensors::serialize([("a", view)], None).unwrap();
        assert!(Weights::from_safetensors(&bytes).is_ok());
        for length in 0..bytes.len() {
            let result = Weights::from_safetensors(&bytes[..length]);
            assert!(matches!(result, Err(WeightsError::Malformed { .. })), "length {length}");
        }
    }
}
