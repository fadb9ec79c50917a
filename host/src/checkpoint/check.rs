//! Holds a description against the tensors: everything that it names exists
//! with the right shape, and nothing is left that could change the function.

use std::collections::BTreeMap;

use headroom_device::model::Description;
use headroom_device::model::description::{Head, LayerNorm, Linear, Mlp, Pooling, Position, TensorRef};

use safetensors::Dtype;

use super::error::CheckpointError;
use super::families::Finding;
use super::tensors::TensorStore;

/// # Errors
/// The first tensor that is missing, has another shape or type, or has no place in the family.
pub(super) fn check(finding: &Finding, tensors: &TensorStore) -> Result<(), CheckpointError> {
    let description = &finding.description;
    let named = Named::of(description, tensors, finding.classes);

    // A fused tensor must end where its last part ends.
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    for Named { tensor, shape, .. } in &named {
        let end = tensor.rows.map_or_else(|| shape.first().copied().unwrap_or(1), |(first, count)| first + count);
        let rows = rows.entry(&tensor.name).or_default();
        *rows = end.max(*rows);
    }
    for Named { tensor, shape, flat } in &named {
        let name = &tensor.name;
        let Some(info) = tensors.info(name) else {
            return Err(CheckpointError::MissingTensor { family: description.family.clone(), name: name.clone() });
        };
        if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(CheckpointError::UnsupportedDtype { name: name.clone(), found: info.dtype });
        }
        let mut expected = shape.clone();
        expected[0] = rows[name.as_str()];
        let fits = if *flat {
            info.shape.iter().product::<usize>() == expected.iter().product::<usize>()
        } else {
            info.shape == expected
        };
        if !fits {
            return Err(CheckpointError::WrongShape { name: name.clone(), expected, found: info.shape.clone() });
        }
    }
    let stranger = tensors.iter().find(|(name, _)| !rows.contains_key(name) && !(finding.without_effect)(name));
    match stranger {
        Some((name, _)) => {
            Err(CheckpointError::UnexpectedTensor { family: description.family.clone(), name: name.to_owned() })
        }
        None => Ok(()),
    }
}

/// A tensor that a description names.
pub(super) struct Named<'a> {
    pub(super) tensor: &'a TensorRef,
    /// The shape that it (or its rows) must have. At least one dimension.
    shape: Vec<usize>,
    /// Any shape with that many values will do: tokens and positions.
    flat: bool,
}

impl<'a> Named<'a> {
    /// Every tensor of `description` with the shape that its sizes imply.
    ///
    /// Sizes that a description does not hold are those of `tensors`: the classes, unless given, and the hidden
    /// neurons of an attention pool.
    pub(super) fn of(description: &'a Description, tensors: &TensorStore, classes: Option<usize>) -> Vec<Self> {
        let rows = |tensor: &TensorRef| {
            tensors.info(&tensor.name).and_then(|info| info.shape.first().copied()).unwrap_or_default()
        };
        let (width, inner, neurons) =
            (description.embed_dim, description.heads * description.head_dim, description.neurons);
        let (image, embedding) = (&description.image, &description.embedding);
        let mut list = List::default();

        list.tensor(&embedding.patch.weight, &[width, image.channels, image.patch, image.patch]);
        list.optional(embedding.patch.bias.as_ref(), width);
        for prefix in &embedding.prefix {
            list.flat(&prefix.tensor, &[prefix.count, width]);
        }
        if let Position::Learned { tensor, prefix_positions, grid, .. } = &embedding.position {
            list.flat(tensor, &[prefix_positions + grid.0 * grid.1, width]);
        }
        list.norm(embedding.norm.as_ref(), width);

        for block in &description.blocks {
            list.norm(Some(&block.norm1), width);
            for input in [&block.query, &block.key, &block.value] {
                list.linear(input, inner, width);
            }
            list.linear(&block.projection, width, inner);
            list.optional(block.layer_scale1.as_ref(), width);
            list.norm(Some(&block.norm2), width);
            match &block.mlp {
                Mlp::Plain { up, down } => {
                    list.linear(up, neurons, width);
                    list.linear(down, width, neurons);
                }
                Mlp::Gated { gate, up, down } => {
                    list.linear(gate, neurons, width);
                    list.linear(up, neurons, width);
                    list.linear(down, width, neurons);
                }
            }
            list.optional(block.layer_scale2.as_ref(), width);
        }

        list.norm(description.final_norm.as_ref(), width);
        match &description.pooling {
            Pooling::Class | Pooling::MeanClassDistillation | Pooling::MeanPatches => {}
            Pooling::ClassThenNorm { norm } | Pooling::MeanPatchesThenNorm { norm } => list.norm(Some(norm), width),
            Pooling::ClassDenseTanh { dense } => list.linear(dense, width, width),
            Pooling::Attention { probe, query, key, value, out, norm, up, down, heads: _, activation: _ } => {
                list.flat(probe, &[1, width]);
                for linear in [query, key, value, out] {
                    list.linear(linear, width, width);
                }
                list.norm(Some(norm), width);
                list.linear(up, rows(&up.weight), width);
                list.linear(down, width, rows(&up.weight));
            }
        }
        let classifiers = match &description.head {
            None => vec![],
            Some(Head::Linear { linear }) => vec![(linear, width)],
            Some(Head::ClassAndPatchMean { linear }) => vec![(linear, 2 * width)],
            Some(Head::AverageOfTwo { class, distillation }) => vec![(class, width), (distillation, width)],
        };
        for (linear, inputs) in &classifiers {
            list.linear(linear, classes.unwrap_or_else(|| rows(&classifiers[0].0.weight)), *inputs);
        }
        list.0
    }
}

#[derive(Default)]
struct List<'a>(Vec<Named<'a>>);

impl<'a> List<'a> {
    fn tensor(&mut self, tensor: &'a TensorRef, shape: &[usize]) {
        self.0.push(Named { tensor, shape: shape.to_vec(), flat: false });
    }

    fn flat(&mut self, tensor: &'a TensorRef, shape: &[usize]) {
        self.0.push(Named { tensor, shape: shape.to_vec(), flat: true });
    }

    fn optional(&mut self, tensor: Option<&'a TensorRef>, length: usize) {
        if let Some(tensor) = tensor {
            self.tensor(tensor, &[length]);
        }
    }

    fn linear(&mut self, linear: &'a Linear, outputs: usize, inputs: usize) {
        self.tensor(&linear.weight, &[outputs, inputs]);
        self.optional(linear.bias.as_ref(), outputs);
    }

    fn norm(&mut self, norm: Option<&'a LayerNorm>, width: usize) {
        if let Some(norm) = norm {
            self.tensor(&norm.weight, &[width]);
            self.tensor(&norm.bias, &[width]);
        }
    }
}
