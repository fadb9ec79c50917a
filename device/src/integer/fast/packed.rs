//! Weights in the order in which vector kernels read them.

use std::collections::HashMap;

use headroom_shared::integer_model::{
    AttentionPooling, HeadLayers, IntegerLinear, IntegerModel, PoolingKind, PoolingLayer,
};

/// Outputs of a panel: 32-bit sums of a vector.
pub(super) const PANEL: usize = 16;
/// Columns of a group: int8 products that one instruction adds up.
pub(super) const GROUP: usize = 4;

/// The weights of four columns of sixteen outputs, output by output: one vector, at an address that suits it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Group(pub [u8; PANEL * GROUP]);

/// A matrix in panels.
#[derive(Debug)]
pub(super) struct PackedMatrix {
    /// Rows that begin at a panel of their own: those of a head.
    unit: usize,
    /// Groups of a panel.
    groups: usize,
    panels: Vec<Group>,
}

impl PackedMatrix {
    fn new(layer: &IntegerLinear<'_>, unit: usize) -> Self {
        let groups = layer.columns().div_ceil(GROUP);
        let units = layer.rows() / unit;
        let mut panels = vec![Group([0; PANEL * GROUP]); units * unit.div_ceil(PANEL) * groups];
        for row in 0..layer.rows() {
            let (place, lane) = (row % unit / PANEL, row % unit % PANEL);
            let panel = row / unit * unit.div_ceil(PANEL) + place;
            let weights = layer.row(row).as_chunks::<GROUP>().0;
            for (group, weights) in panels[panel * groups..][..groups].iter_mut().zip(weights) {
                group.0[lane * GROUP..][..GROUP].copy_from_slice(weights);
            }
        }
        Self { unit, groups, panels }
    }

    /// The panels from that of row `first` on, which begins a unit.
    pub fn panels(&self, first: usize) -> impl Iterator<Item = &[Group]> {
        debug_assert!(first.is_multiple_of(self.unit), "panels begin with a unit");
        self.panels.chunks_exact(self.groups.max(1)).skip(first / self.unit * self.unit.div_ceil(PANEL))
    }
}

/// All matrices of a model, by the place of their weights in its file.
#[derive(Debug)]
pub(super) struct PackedMatrices {
    matrices: HashMap<usize, PackedMatrix>,
}

impl PackedMatrices {
    pub fn new(model: &IntegerModel<'_>) -> Self {
        let mut packed = Self { matrices: HashMap::new() };
        packed.add(&model.patch(), model.sizes().embed_dim);
        for block in 0..model.sizes().blocks {
            let counts = model.counts(block);
            let layers = model.block(block);
            packed.add(&layers.query, counts.query_dims);
            packed.add(&layers.key, counts.query_dims);
            packed.add(&layers.value, counts.value_dims);
            for layer in [Some(layers.up), layers.gate].into_iter().flatten() {
                packed.add(&layer, layer.rows());
            }
            let corrected = (0..model.corrections()).map(|correction| model.corrected_ends(correction, block));
            for ends in layers.ends.into_iter().chain(corrected) {
                packed.add(&ends.projection, ends.projection.rows());
                packed.add(&ends.down, ends.down.rows());
            }
        }
        match (model.pooling(), model.sizes().pooling) {
            (PoolingLayer::Dense(layer), _) => packed.add(&layer, layer.rows()),
            (PoolingLayer::Attention(layers), PoolingKind::Attention(AttentionPooling { heads, .. })) => {
                for layer in [layers.key, layers.value] {
                    packed.add(&layer, layer.rows() / heads);
                }
                for layer in [layers.out, layers.up, layers.down] {
                    packed.add(&layer, layer.rows());
                }
            }
            _ => {}
        }
        match model.head() {
            HeadLayers::None => {}
            HeadLayers::One(layer) => packed.add(&layer, layer.rows()),
            HeadLayers::Two(class, distillation) => {
                packed.add(&class, class.rows());
                packed.add(&distillation, distillation.rows());
            }
        }
        packed
    }

    fn add(&mut self, layer: &IntegerLinear<'_>, unit: usize) {
        if !layer.weights().is_empty() {
            self.matrices.entry(place(layer)).or_insert_with(|| PackedMatrix::new(layer, unit));
        }
    }

    /// The packed weights of `layer`; none where it has no weights.
    pub fn get(&self, layer: &IntegerLinear<'_>) -> Option<&PackedMatrix> {
        if layer.weights().is_empty() { None } else { self.matrices.get(&place(layer)) }
    }
}

fn place(layer: &IntegerLinear<'_>) -> usize {
    layer.weights().as_ptr().addr()
}
