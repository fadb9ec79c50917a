//! Corrected layers beside the original ones.

use super::error::EngineError;
use super::matmul::{Operand, Product, Segment, Target};
use super::pack::{LinearTensors, PackedLinear};
use super::panel::{PanelRow, pack_row};
use super::shared::Shared;
use super::sizes::Sizes;
use crate::model::corrections::{Correction, Corrections};
use crate::model::weights::Tensor;

/// The last layer of a branch as one inference runs it.
#[derive(Clone, Copy)]
pub(super) struct BranchEnd<'a> {
    pub layer: &'a PackedLinear,
    pub bias: &'a [PanelRow],
    pub scale: Option<&'a [PanelRow]>,
}

impl<'a> BranchEnd<'a> {
    /// Adds the first `rows` rows of `a` times `count` panels from `first` to those panels of `stream`, which is
    /// row-major of `width` columns.
    pub(super) fn product(
        self,
        a: Operand<'a>,
        rows: usize,
        [first, count]: [usize; 2],
        segments: &'a [Segment],
        stream: Shared<'a, f32>,
        width: usize,
    ) -> Product<'a> {
        let panels = first..first + count;
        let scale = self.scale.map(|scale| &scale[panels.clone()]);
        let target = Target::Added { stream, width, first_panel: first, scale };
        Product { bias: &self.bias[panels], ..self.layer.product(a, rows, first, count, segments, target) }
    }
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
