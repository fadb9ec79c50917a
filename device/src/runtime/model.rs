//! A bundle that serves: what one inference reads, and nothing else.

use crate::rung_engine::{RungEngine, RungWorkspace};
use crate::switch::ActiveRung;

/// A bundle with its sub-networks and the index of the active one. Replaced as a whole, so that an inference that holds
/// it never mixes two bundles.
pub(super) struct Model {
    /// Counts the bundles of a runtime.
    pub generation: u64,
    pub engine: RungEngine,
    /// MACs and fidelity of each rung.
    pub costs: Vec<(u64, f32)>,
    pub active: ActiveRung,
    /// That share an inference.
    threads: usize,
}

/// What one worker writes to while it runs one model.
pub(super) struct Buffers {
    /// Of the model that they were made for.
    pub generation: u64,
    pub workspace: RungWorkspace,
}

impl Model {
    pub(super) fn new(generation: u64, engine: RungEngine, threads: usize) -> Self {
        let costs = engine.bundle().structure_map().rungs().iter().map(|rung| (rung.macs, rung.fidelity)).collect();
        Self { generation, active: engine.table().active(), engine, costs, threads }
    }

    pub(super) fn buffers(&self) -> Buffers {
        Buffers { generation: self.generation, workspace: self.engine.workspace(self.threads) }
    }
}
