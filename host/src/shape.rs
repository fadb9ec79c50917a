//! From a model's description to the shape that costs and rankings are computed from.

use headroom_device::model::description::{Head, LayerNorm, Linear, Mlp, Pooling, Position};
use headroom_device::model::weights::WeightsError;
use headroom_device::model::{Description, Weights};
use headroom_shared::{MlpKind, ModelShape, ShapeError};

/// Why a model has no shape that a structure map can hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelShapeError {
    /// A tensor of the description is not there.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A size is larger than the structure map's format can hold.
    #[error("the model has {found} {what}, a structure map holds at most {most}")]
    TooLarge { what: &'static str, most: u64, found: u64 },
    /// The sizes are impossible.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// The shape of the model, with the costs of everything outside its blocks and
/// without floors. `bytes_per_weight` is that of the stored checkpoint.
///
/// # Errors
/// If a tensor is missing or a size does not fit.
pub fn model_shape(
    description: &Description,
    weights: &Weights,
    bytes_per_weight: u8,
) -> Result<ModelShape, ModelShapeError> {
    let outside = Outside::of(description, weights)?;
    let shape = ModelShape {
        blocks: narrow("blocks", description.blocks.len())?,
        heads: narrow("heads in a block", description.heads)?,
        head_dim: narrow("dimensions of a head", description.head_dim)?,
        neurons: narrow("neurons in a block", description.neurons)?,
        embed_dim: narrow("dimensions of a token", description.embed_dim)?,
        tokens: narrow("tokens", description.tokens())?,
        mlp: match description.blocks.first().map(|block| &block.mlp) {
            Some(Mlp::Gated { .. }) => MlpKind::Gated,
            _ => MlpKind::Plain,
        },
        bytes_per_weight,
        outside_macs: outside.macs,
        outside_weight_bytes: outside.weights * u64::from(bytes_per_weight),
        floor_heads: 0,
        floor_neurons: 0,
    };
    shape.validate()?;
    Ok(shape)
}

fn narrow<T: TryFrom<usize>>(what: &'static str, found: usize) -> Result<T, ModelShapeError> {
    let most = (1u64 << (8 * size_of::<T>())) - 1;
    T::try_from(found).map_err(|_| ModelShapeError::TooLarge { what, most, found: found as u64 })
}

/// What no step of the ranking removes.
#[derive(Default)]
struct Outside {
    macs: u64,
    weights: u64,
}

impl Outside {
    fn of(description: &Description, weights: &Weights) -> Result<Self, WeightsError> {
        let mut outside = Self::default();
        let (rows, columns) = description.grid();
        let (patches, tokens) = ((rows * columns) as u64, description.tokens() as u64);
        let embedding = &description.embedding;
        outside.linear(&embedding.patch, patches, weights)?;
        for prefix in &embedding.prefix {
            outside.weights += weights.values(&prefix.tensor)?.len() as u64;
        }
        if let Position::Learned { tensor, .. } = &embedding.position {
            outside.weights += weights.values(tensor)?.len() as u64;
        }
        for norm in embedding.norm.iter().chain(&description.final_norm) {
            outside.norm(norm, weights)?;
        }
        match &description.pooling {
            Pooling::Class | Pooling::MeanClassDistillation | Pooling::MeanPatches => {}
            Pooling::ClassThenNorm { norm } | Pooling::MeanPatchesThenNorm { norm } => outside.norm(norm, weights)?,
            Pooling::ClassDenseTanh { dense } => outside.linear(dense, 1, weights)?,
            Pooling::Attention { probe, query, key, value, out, norm, up, down, .. } => {
                outside.weights += weights.values(probe)?.len() as u64;
                for (linear, rows) in [(query, 1), (key, tokens), (value, tokens), (out, 1), (up, 1), (down, 1)] {
                    outside.linear(linear, rows, weights)?;
                }
                outside.macs += 2 * tokens * description.embed_dim as u64;
                outside.norm(norm, weights)?;
            }
        }
        match &description.head {
            None => {}
            Some(Head::Linear { linear } | Head::ClassAndPatchMean { linear }) => outside.linear(linear, 1, weights)?,
            Some(Head::AverageOfTwo { class, distillation }) => {
                outside.linear(class, 1, weights)?;
                outside.linear(distillation, 1, weights)?;
            }
        }
        Ok(outside)
    }

    /// A linear layer that runs on so many rows.
    fn linear(&mut self, linear: &Linear, rows: u64, weights: &Weights) -> Result<(), WeightsError> {
        let entries = weights.values(&linear.weight)?.len() as u64;
        self.macs += rows * entries;
        self.weights += entries;
        if let Some(bias) = &linear.bias {
            self.weights += weights.values(bias)?.len() as u64;
        }
        Ok(())
    }

    fn norm(&mut self, norm: &LayerNorm, weights: &Weights) -> Result<(), WeightsError> {
        self.weights += (weights.values(&norm.weight)?.len() + weights.values(&norm.bias)?.len()) as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_does_not_fit_is_named() {
        let error = narrow::<u8>("heads in a block", 256).unwrap_err();
        assert_eq!(error.to_string(), "the model has 256 heads in a block, a structure map holds at most 255");
    }
}
