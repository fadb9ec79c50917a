//! Puts heads and neurons into another order without changing the function.
//!
//! Heads are groups of `head_dim` rows of query, key and value (and their
//! biases) and the same columns of the projection; neurons are rows of up and
//! gate and columns of down. Reordering both sides alike changes only the
//! order of a sum. Layer scales, norms and the biases of projection and down
//! belong to tokens, not to structures, and stay; so do attention pools.

use std::collections::BTreeMap;

use headroom_device::model::Description;
use headroom_device::model::description::{Linear, Mlp, TensorRef};
use headroom_device::model::weights::{Tensor, Weights, WeightsError};

/// The order of one block's structures: new position to old index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockOrder {
    /// As many as the model has heads in a block.
    pub heads: Vec<usize>,
    /// As many as the model has neurons in a block.
    pub neurons: Vec<usize>,
}

/// An order of the structures of every block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permutation {
    /// In the order of the blocks.
    pub blocks: Vec<BlockOrder>,
}

/// Why a permutation cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PermutationError {
    /// There is not one order for each block.
    #[error("the permutation orders {found} blocks, the model has {expected}")]
    Blocks { expected: usize, found: usize },
    /// An order does not name every structure exactly once.
    #[error("the order of the {structures} of block {block} is no permutation of 0..{expected}")]
    Order { block: usize, structures: &'static str, expected: usize },
    /// The weights do not have a tensor that the description names.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The weights have another shape than the description says.
    #[error("tensor `{name}` has the shape {found:?}, which does not hold all heads and neurons of its block")]
    Shape { name: String, found: Vec<usize> },
}

impl Permutation {
    /// The order that the structures have.
    #[must_use]
    pub fn identity(description: &Description) -> Self {
        let block = BlockOrder { heads: (0..description.heads).collect(), neurons: (0..description.neurons).collect() };
        Self { blocks: vec![block; description.blocks.len()] }
    }

    /// The permutation that undoes this one, which must be valid.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let blocks = self
            .blocks
            .iter()
            .map(|block| BlockOrder { heads: inverse(&block.heads), neurons: inverse(&block.neurons) })
            .collect();
        Self { blocks }
    }

    /// The same function with its structures in this order.
    ///
    /// # Errors
    /// If the permutation does not fit `description`, or `weights` does not.
    pub fn apply(&self, description: &Description, weights: &Weights) -> Result<Weights, PermutationError> {
        let plan = Plan::new(self, description)?;
        let mut permuted = Weights::default();
        for (name, tensor) in weights.iter() {
            let mut data = tensor.data.clone();
            plan.reorder(name, &mut data, &tensor.shape, 1)?;
            permuted.insert(name, Tensor { shape: tensor.shape.clone(), data });
        }
        match plan.tensors.keys().find(|name| weights.get(name).is_none()) {
            Some(name) => Err(WeightsError::Missing { name: (*name).to_owned() }.into()),
            None => Ok(permuted),
        }
    }

    fn check(&self, description: &Description) -> Result<(), PermutationError> {
        let (expected, found) = (description.blocks.len(), self.blocks.len());
        if expected != found {
            return Err(PermutationError::Blocks { expected, found });
        }
        for (block, order) in self.blocks.iter().enumerate() {
            let orders = [("heads", &order.heads, description.heads), ("neurons", &order.neurons, description.neurons)];
            for (structures, order, expected) in orders {
                if !is_permutation(order, expected) {
                    return Err(PermutationError::Order { block, structures, expected });
                }
            }
        }
        Ok(())
    }
}

fn is_permutation(order: &[usize], count: usize) -> bool {
    let mut seen = vec![false; count];
    order.len() == count && order.iter().all(|&index| index < count && !std::mem::replace(&mut seen[index], true))
}

fn inverse(order: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; order.len()];
    for (new, &old) in order.iter().enumerate() {
        inverse[old] = new;
    }
    inverse
}

/// What has to be moved in which tensor.
pub(super) struct Plan<'a> {
    tensors: BTreeMap<&'a str, Vec<Move<'a>>>,
}

/// Groups of rows or columns that change places.
struct Move<'a> {
    axis: Axis,
    /// Rows or columns of a group.
    group: usize,
    order: &'a [usize],
}

enum Axis {
    /// Groups of rows, from this row on.
    Rows { first: usize },
    /// Groups of columns, in every row.
    Columns,
}

impl<'a> Plan<'a> {
    /// # Errors
    /// If the permutation does not fit the description.
    pub(super) fn new(permutation: &'a Permutation, description: &'a Description) -> Result<Self, PermutationError> {
        permutation.check(description)?;
        let mut plan = Self { tensors: BTreeMap::new() };
        for (block, order) in description.blocks.iter().zip(&permutation.blocks) {
            let (heads, head_dim, neurons) = (&order.heads, description.head_dim, &order.neurons);
            for linear in [&block.query, &block.key, &block.value] {
                plan.outputs(linear, head_dim, heads);
            }
            plan.inputs(&block.projection, head_dim, heads);
            match &block.mlp {
                Mlp::Plain { up, down } => {
                    plan.outputs(up, 1, neurons);
                    plan.inputs(down, 1, neurons);
                }
                Mlp::Gated { gate, up, down } => {
                    plan.outputs(gate, 1, neurons);
                    plan.outputs(up, 1, neurons);
                    plan.inputs(down, 1, neurons);
                }
            }
        }
        Ok(plan)
    }

    fn outputs(&mut self, linear: &'a Linear, group: usize, order: &'a [usize]) {
        for TensorRef { name, rows } in std::iter::once(&linear.weight).chain(&linear.bias) {
            let first = rows.map_or(0, |(first, _)| first);
            self.tensors.entry(name).or_default().push(Move { axis: Axis::Rows { first }, group, order });
        }
    }

    fn inputs(&mut self, linear: &'a Linear, group: usize, order: &'a [usize]) {
        let moves = self.tensors.entry(&linear.weight.name).or_default();
        moves.push(Move { axis: Axis::Columns, group, order });
    }

    /// Reorders the values of tensor `name`, each of which is `element` items of `data`.
    ///
    /// # Errors
    /// If the tensor is smaller than the description says; tensors outside the plan stay as they are.
    pub(super) fn reorder<T: Copy>(
        &self,
        name: &str,
        data: &mut [T],
        shape: &[usize],
        element: usize,
    ) -> Result<(), PermutationError> {
        let wrong_shape = || PermutationError::Shape { name: name.to_owned(), found: shape.to_vec() };
        let width = shape.iter().skip(1).product::<usize>() * element;
        for Move { axis, group, order } in self.tensors.get(name).into_iter().flatten() {
            match axis {
                Axis::Rows { first } => {
                    let unit = group * width;
                    let start = first * width;
                    let region = data.get_mut(start..start + unit * order.len()).ok_or_else(wrong_shape)?;
                    reorder_groups(region, unit, order);
                }
                Axis::Columns => {
                    let unit = group * element;
                    if width == 0 || width != unit * order.len() {
                        return Err(wrong_shape());
                    }
                    for row in data.chunks_exact_mut(width) {
                        reorder_groups(row, unit, order);
                    }
                }
            }
        }
        Ok(())
    }
}

/// `region` is `order.len()` groups of `unit` items.
fn reorder_groups<T: Copy>(region: &mut [T], unit: usize, order: &[usize]) {
    let old = region.to_vec();
    for (group, &index) in region.chunks_exact_mut(unit.max(1)).zip(order) {
        group.copy_from_slice(&old[index * unit..(index + 1) * unit]);
    }
}
