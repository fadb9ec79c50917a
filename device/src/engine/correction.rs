//! Corrected layers beside the original ones, and which of them an inference runs.

use headroom_shared::KeptStructures;

use super::error::EngineError;
use super::pack::{LinearTensors, PackedLinear};
use super::panel::{PanelRow, pack_row};
use super::sizes::Sizes;
use crate::model::corrections::{Correction, Corrections};
use crate::model::weights::Tensor;

/// Structures that run with a correction of the model.
#[derive(Clone, Copy, Debug)]
pub struct Corrected<'a, K> {
    pub kept: &'a K,
    /// The number of the correction ([`Corrections::places`]); `None` runs the original weights.
    pub correction: Option<usize>,
}

impl<K: KeptStructures> KeptStructures for Corrected<'_, K> {
    fn heads(&self, block: usize) -> usize {
        self.kept.heads(block)
    }

    fn head(&self, block: usize, index: usize) -> usize {
        self.kept.head(block, index)
    }

    fn neurons(&self, block: usize) -> usize {
        self.kept.neurons(block)
    }

    fn value_dims(&self, block: usize) -> Option<usize> {
        self.kept.value_dims(block)
    }

    fn query_dims(&self, block: usize) -> Option<usize> {
        self.kept.query_dims(block)
    }

    fn merged_tokens(&self, block: usize) -> usize {
        self.kept.merged_tokens(block)
    }

    fn correction(&self) -> Option<usize> {
        self.correction
    }
}

/// The last layer of a branch as one inference runs it.
#[derive(Clone, Copy)]
pub(super) struct BranchEnd<'a> {
    pub layer: &'a PackedLinear,
    pub bias: &'a [PanelRow],
    pub scale: Option<&'a [PanelRow]>,
}

/// All corrections of a model.
#[derive(Clone)]
pub(super) struct PackedCorrections {
    /// By group, then by block.
    groups: Vec<Vec<PackedBlockCorrection>>,
    /// Group and place of each correction.
    places: Vec<(usize, usize)>,
}

#[derive(Clone)]
struct PackedBlockCorrection {
    projection: PackedCorrection,
    down: PackedCorrection,
}

#[derive(Clone)]
struct PackedCorrection {
    layer: PackedLinear,
    /// One row of panels for each rung of the group.
    biases: Vec<Vec<PanelRow>>,
}

/// The corrected layers of a block.
#[derive(Clone, Copy)]
pub(super) struct CorrectedBlock<'a> {
    pub projection: BranchEnd<'a>,
    pub down: BranchEnd<'a>,
}

impl PackedCorrections {
    pub(super) fn new(corrections: &Corrections, sizes: &Sizes) -> Result<Self, EngineError> {
        let attended = sizes.heads * sizes.head_dim;
        let mut groups = Vec::with_capacity(corrections.groups.len());
        for (number, group) in corrections.groups.iter().enumerate() {
            if group.blocks.len() != sizes.depth {
                let found = vec![group.blocks.len()];
                let expected = format!("{} blocks", sizes.depth);
                return Err(EngineError::Shape { name: format!("corrections of group {number}"), expected, found });
            }
            let mut blocks = Vec::with_capacity(sizes.depth);
            for (index, block) in group.blocks.iter().enumerate() {
                let pack = |layer: &str, correction, inputs| {
                    let name = format!("{number}.{index}.{layer}");
                    PackedCorrection::new(correction, &name, sizes.embed_dim, inputs, group.rungs.len())
                };
                blocks.push(PackedBlockCorrection {
                    projection: pack("projection", &block.projection, attended)?,
                    down: pack("down", &block.down, sizes.neurons)?,
                });
            }
            groups.push(blocks);
        }
        Ok(Self { groups, places: corrections.places().map(|(_, group, place)| (group, place)).collect() })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    /// The layers of `block` in the correction of that number, which is one of [`Self::count`].
    pub(super) fn block(&self, correction: usize, block: usize) -> CorrectedBlock<'_> {
        let (group, place) = self.places[correction];
        let PackedBlockCorrection { projection, down } = &self.groups[group][block];
        CorrectedBlock { projection: projection.end(place), down: down.end(place) }
    }
}

impl PackedCorrection {
    fn new(
        correction: &Correction,
        name: &str,
        embed_dim: usize,
        inputs: usize,
        rungs: usize,
    ) -> Result<Self, EngineError> {
        check(&correction.weight, &format!("{name}.weight"), [embed_dim, inputs])?;
        check(&correction.biases, &format!("{name}.bias"), [rungs, embed_dim])?;
        let layer = PackedLinear::new(LinearTensors { weight: &correction.weight.data, bias: None, inputs });
        Ok(Self { layer, biases: correction.biases.data.chunks_exact(embed_dim).map(pack_row).collect() })
    }

    fn end(&self, place: usize) -> BranchEnd<'_> {
        BranchEnd { layer: &self.layer, bias: &self.biases[place], scale: None }
    }
}

fn check(tensor: &Tensor, name: &str, expected: [usize; 2]) -> Result<(), EngineError> {
    if tensor.shape == expected && tensor.data.len() == expected[0] * expected[1] {
        return Ok(());
    }
    Err(EngineError::Shape { name: name.to_owned(), expected: format!("{expected:?}"), found: tensor.shape.clone() })
}
