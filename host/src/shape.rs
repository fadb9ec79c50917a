//! From a model's description to the shape that costs and rankings are computed from.

use headroom_device::model::description::{Head, LayerNorm, Linear, Mlp, Pooling, Position};
use headroom_shared::{MlpKind, ModelShape, ShapeError};

use crate::checkpoint::{Checkpoint, TensorStore};

/// Why a model has no shape that a structure map can hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelShapeError {
    /// A size is larger than the structure map's format can hold.
    #[error("the model has {found} {what}, a structure map holds at most {most}")]
    TooLarge { what: &'static str, most: u64, found: u64 },
    /// The sizes are impossible.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// The shape of the model as it is stored, with the costs of everything outside
/// its blocks and without floors. No weight is read.
///
/// # Errors
/// If a size does not fit.
pub fn model_shape(checkpoint: &Checkpoint) -> Result<ModelShape, ModelShapeError> {
    let description = &checkpoint.description;
    let bytes_per_weight = checkpoint.bytes_per_weight();
    let outside = Outside::of(checkpoint);
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
    fn of(checkpoint: &Checkpoint) -> Self {
        let (description, tensors) = (&checkpoint.description, checkpoint.tensors());
        let mut outside = Self::default();
        let (rows, columns) = description.grid();
        let (patches, tokens) = ((rows * columns) as u64, description.tokens() as u64);
        let embedding = &description.embedding;
        outside.linear(&embedding.patch, patches, tensors);
        for prefix in &embedding.prefix {
            outside.weights += tensors.values(&prefix.tensor);
        }
        if let Position::Learned { tensor, .. } = &embedding.position {
            outside.weights += tensors.values(tensor);
        }
        for norm in embedding.norm.iter().chain(&description.final_norm) {
            outside.norm(norm, tensors);
        }
        match &description.pooling {
            Pooling::Class | Pooling::MeanClassDistillation | Pooling::MeanPatches => {}
            Pooling::ClassThenNorm { norm } | Pooling::MeanPatchesThenNorm { norm } => outside.norm(norm, tensors),
            Pooling::ClassDenseTanh { dense } => outside.linear(dense, 1, tensors),
            Pooling::Attention { probe, query, key, value, out, norm, up, down, .. } => {
                outside.weights += tensors.values(probe);
                for (linear, rows) in [(query, 1), (key, tokens), (value, tokens), (out, 1), (up, 1), (down, 1)] {
                    outside.linear(linear, rows, tensors);
                }
                outside.macs += 2 * tokens * description.embed_dim as u64;
                outside.norm(norm, tensors);
            }
        }
        match &description.head {
            None => {}
            Some(Head::Linear { linear } | Head::ClassAndPatchMean { linear }) => outside.linear(linear, 1, tensors),
            Some(Head::AverageOfTwo { class, distillation }) => {
                outside.linear(class, 1, tensors);
                outside.linear(distillation, 1, tensors);
            }
        }
        outside
    }

    /// A linear layer that runs on so many rows.
    fn linear(&mut self, linear: &Linear, rows: u64, tensors: &TensorStore) {
        let entries = tensors.values(&linear.weight);
        self.macs += rows * entries;
        self.weights += entries + linear.bias.as_ref().map_or(0, |bias| tensors.values(bias));
    }

    fn norm(&mut self, norm: &LayerNorm, tensors: &TensorStore) {
        self.weights += tensors.values(&norm.weight) + tensors.values(&norm.bias);
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
