//! Builds the parts of a description from tensor names.

use std::collections::BTreeSet;

use headroom_device::model::description::{Head, LayerNorm, Linear, PrefixKind, PrefixTokens, TensorRef};

use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::tensors::TensorStore;

/// The tensors below one prefix of a checkpoint.
///
/// Names that do not exist may be built: the check of the finished description
/// reports them with the shape that they should have.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) family: &'a str,
    pub(super) tensors: &'a TensorStore,
    /// Before every name, such as `vision_model.`.
    pub(super) prefix: &'a str,
}

impl Parts<'_> {
    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.info(&self.full(name)).is_some()
    }

    /// The size of one dimension of a tensor.
    ///
    /// # Errors
    /// If the tensor is missing or has fewer dimensions.
    pub(super) fn size(&self, name: &str, dimension: usize) -> Result<usize, CheckpointError> {
        let name = self.full(name);
        let Some(info) = self.tensors.info(&name) else {
            return Err(CheckpointError::MissingTensor { family: self.family.to_owned(), name });
        };
        info.shape.get(dimension).copied().ok_or_else(|| CheckpointError::WrongShape {
            name,
            expected: vec![1; dimension + 1],
            found: info.shape.clone(),
        })
    }

    /// The number of values of a tensor.
    ///
    /// # Errors
    /// If it is missing.
    pub(super) fn values(&self, name: &str) -> Result<usize, CheckpointError> {
        let name = self.full(name);
        match self.tensors.info(&name) {
            Some(info) => Ok(info.shape.iter().product()),
            None => Err(CheckpointError::MissingTensor { family: self.family.to_owned(), name }),
        }
    }

    pub(super) fn tensor(&self, name: &str) -> TensorRef {
        TensorRef { name: self.full(name), rows: None }
    }

    pub(super) fn optional(&self, name: &str) -> Option<TensorRef> {
        self.has(name).then(|| self.tensor(name))
    }

    /// `NAME.weight` and, where the file has it, `NAME.bias`.
    pub(super) fn linear(&self, name: &str) -> Linear {
        Linear { weight: self.tensor(&format!("{name}.weight")), bias: self.optional(&format!("{name}.bias")) }
    }

    /// Part `index` of a fused linear layer whose parts have `rows` rows each.
    pub(super) fn fused(&self, name: &str, index: usize, rows: usize) -> Linear {
        let Linear { mut weight, mut bias } = self.linear(name);
        weight.rows = Some((index * rows, rows));
        if let Some(bias) = &mut bias {
            bias.rows = weight.rows;
        }
        Linear { weight, bias }
    }

    pub(super) fn norm(&self, name: &str, eps: f64) -> LayerNorm {
        LayerNorm { weight: self.tensor(&format!("{name}.weight")), bias: self.tensor(&format!("{name}.bias")), eps }
    }

    pub(super) fn optional_norm(&self, name: &str, eps: f64) -> Option<LayerNorm> {
        self.has(&format!("{name}.weight")).then(|| self.norm(name, eps))
    }

    pub(super) fn optional_classifier(&self, name: &str) -> Option<Head> {
        self.has(&format!("{name}.weight")).then(|| Head::Linear { linear: self.linear(name) })
    }

    /// Those of the prefix tokens that the file has, in the given order.
    ///
    /// # Errors
    /// If a token tensor is not a whole number of tokens wide.
    pub(super) fn prefix_tokens(
        &self,
        names: &[(PrefixKind, &str)],
        embed_dim: usize,
    ) -> Result<Vec<PrefixTokens>, CheckpointError> {
        let mut prefix = Vec::new();
        for &(kind, name) in names.iter().filter(|(_, name)| self.has(name)) {
            let count = (self.values(name)? / embed_dim.max(1)).max(1);
            prefix.push(PrefixTokens { kind, tensor: self.tensor(name), count });
        }
        Ok(prefix)
    }

    /// How many different numbers follow `STEM.` in the names.
    pub(super) fn count_blocks(&self, stem: &str) -> usize {
        let start = format!("{}{stem}.", self.prefix);
        let numbers: BTreeSet<&str> = self
            .tensors
            .iter()
            .filter_map(|(name, _)| name.strip_prefix(&start)?.split('.').next())
            .filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
            .collect();
        numbers.len()
    }
}
