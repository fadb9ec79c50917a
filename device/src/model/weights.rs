//! The weights of a model by their checkpoint names, widened to f32.

use std::collections::BTreeMap;

use super::description::TensorRef;

/// A dense row-major f32 tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// Tensors by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
}

/// A tensor that the description names is not in the weights, or is too short.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    #[error("not a complete safetensors file: {reason}")]
    Malformed { reason: String },
    #[error("tensor `{name}` is missing")]
    Missing { name: String },
    #[error("tensor `{name}` has {found} rows, expected at least {expected}")]
    TooFewRows { name: String, expected: usize, found: usize },
}

impl Weights {
    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// Takes the tensor of that name out.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.remove(name)
    }

    /// The whole tensor of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The whole tensor of that name, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Tensor> {
        self.tensors.get_mut(name)
    }

    /// All tensors, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The values of `tensor` (its rows, where it names some).
    ///
    /// # Errors
    /// If the name is missing or the tensor has fewer rows.
    pub fn values(&self, tensor: &TensorRef) -> Result<&[f32], WeightsError> {
        let found =
            self.tensors.get(&tensor.name).ok_or_else(|| WeightsError::Missing { name: tensor.name.clone() })?;
        let Some((first, count)) = tensor.rows else { return Ok(&found.data) };
        let rows = found.shape.first().copied().unwrap_or(1);
        if first + count > rows {
            return Err(WeightsError::TooFewRows { name: tensor.name.clone(), expected: first + count, found: rows });
        }
        let width = found.data.len() / rows.max(1);
        Ok(&found.data[first * width..(first + count) * width])
    }
}
