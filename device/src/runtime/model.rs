//! A bundle that serves: what one inference reads, and nothing else.

use std::sync::Arc;

use crate::bundle::Bundle;
use crate::engine::Workspace;
#[cfg(feature = "images")]
use crate::images::{PreprocessError, Preprocessor};
use crate::switch::{ActiveRung, RungTable};

/// A bundle with its sub-networks and the index of the active one. Replaced as a whole, so that an inference that holds
/// it never mixes two bundles.
pub(super) struct Model {
    /// Counts the bundles of a runtime.
    pub generation: u64,
    pub bundle: Arc<Bundle>,
    pub table: RungTable,
    /// MACs and fidelity of each rung.
    pub costs: Vec<(u64, f32)>,
    pub active: ActiveRung,
    /// That share an inference.
    threads: usize,
    /// An error for models whose input is no RGB image.
    #[cfg(feature = "images")]
    preprocessor: Result<Preprocessor, PreprocessError>,
}

/// What one worker writes to while it runs one model.
pub(super) struct Buffers {
    /// Of the model that they were made for.
    pub generation: u64,
    pub workspace: Workspace,
    #[cfg(feature = "images")]
    pub preprocessor: Result<Preprocessor, PreprocessError>,
    /// Of one preprocessed image.
    #[cfg(feature = "images")]
    pub pixels: Vec<f32>,
}

impl Model {
    pub(super) fn new(generation: u64, bundle: Arc<Bundle>, threads: usize) -> Self {
        let (table, costs) = {
            let map = bundle.structure_map();
            (RungTable::new(&map), map.rungs().iter().map(|rung| (rung.macs, rung.fidelity)).collect())
        };
        Self {
            generation,
            active: table.active(),
            table,
            costs,
            threads,
            #[cfg(feature = "images")]
            preprocessor: Preprocessor::new(&bundle.description().image),
            bundle,
        }
    }

    pub(super) fn buffers(&self) -> Buffers {
        Buffers {
            generation: self.generation,
            workspace: self.bundle.vit().workspace_with_threads(1, self.threads),
            #[cfg(feature = "images")]
            preprocessor: self.preprocessor.clone(),
            #[cfg(feature = "images")]
            pixels: vec![0.0; self.bundle.vit().pixels()],
        }
    }
}
