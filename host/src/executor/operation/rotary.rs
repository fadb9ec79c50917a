//! Rotation of the queries and keys of patch tokens (DINOv3).

use candle_core::{Result, Tensor};

use super::attention::Attention;

/// Cosines and sines `[tokens, head_dim]`; prefix tokens have the angle zero.
#[derive(Clone, Debug)]
pub struct Rotary {
    pub cosine: Tensor,
    pub sine: Tensor,
}

impl Rotary {
    /// Packed queries, keys and values with the queries and keys rotated.
    ///
    /// # Errors
    /// If `packed` does not have the sizes of `attention`.
    pub fn forward(&self, attention: &Attention, packed: &Tensor) -> Result<Tensor> {
        self.rotate(attention, packed, &self.sine)
    }

    /// The gradient before the rotation: rotated back.
    ///
    /// # Errors
    /// If `gradient` does not have the sizes of `attention`.
    pub fn backward(&self, attention: &Attention, gradient: &Tensor) -> Result<Tensor> {
        self.rotate(attention, gradient, &self.sine.neg()?)
    }

    fn rotate(&self, attention: &Attention, packed: &Tensor, sine: &Tensor) -> Result<Tensor> {
        let Attention { images, tokens, heads, query_dims, .. } = *attention;
        let turning = 2 * heads * query_dims;
        let x = packed.narrow(1, 0, turning)?.reshape((images, tokens, 2 * heads, query_dims))?;
        let half = query_dims / 2;
        let turned = Tensor::cat(&[x.narrow(3, half, half)?.neg()?, x.narrow(3, 0, half)?], 3)?;
        let shape = (1, tokens, 1, query_dims);
        let x = (x.broadcast_mul(&self.cosine.reshape(shape)?)? + turned.broadcast_mul(&sine.reshape(shape)?)?)?;
        let values = packed.narrow(1, turning, packed.dim(1)? - turning)?;
        Tensor::cat(&[x.reshape((images * tokens, turning))?, values], 1)
    }
}
