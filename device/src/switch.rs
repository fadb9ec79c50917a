//! Changing the size of the model while it runs.
//!
//! All sub-networks of the ladder are worked out once, into a [`RungTable`].
//! Switching is then publishing an index ([`ActiveRung::set`]), and an inference
//! begins by reading it ([`ActiveRung::get`]). Nothing is copied or allocated
//! and neither side ever waits.
//!
//! The index has latest-value semantics: a reader sees the last one published,
//! and values published in between are never seen. An inference reads it once,
//! at its start, and keeps what it read, so that it never mixes two rungs; a
//! switch takes effect at the next inference.

use core::sync::atomic::{AtomicU8, Ordering};

use headroom_shared::{MAX_RUNGS, StructureMap, SubNetwork};

/// The sub-network of every rung, dense first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RungTable {
    sub_networks: [SubNetwork; MAX_RUNGS],
    rungs: u8,
}

impl RungTable {
    /// Works out the sub-networks of all rungs of `map`.
    #[must_use]
    pub fn new(map: &StructureMap<'_>) -> Self {
        let mut sub_networks = [SubNetwork::dense(map.shape()); MAX_RUNGS];
        for (slot, sub_network) in sub_networks.iter_mut().zip((0..).map_while(|rung| map.sub_network_of(rung))) {
            *slot = sub_network;
        }
        Self { sub_networks, rungs: map.rungs().len() as u8 }
    }

    /// All of them, dense first; never empty.
    #[must_use]
    pub fn sub_networks(&self) -> &[SubNetwork] {
        &self.sub_networks[..usize::from(self.rungs)]
    }

    /// The sub-network of rung `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&SubNetwork> {
        self.sub_networks().get(index)
    }

    /// An index of these rungs to publish, the dense one at first.
    #[must_use]
    pub fn active(&self) -> ActiveRung {
        ActiveRung { rungs: self.rungs, index: AtomicU8::new(0) }
    }
}

/// There is no such rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rung {found} of a ladder with {rungs} rungs (0 is the dense one)")]
pub struct NoSuchRung {
    /// The number of rungs.
    pub rungs: usize,
    pub found: usize,
}

/// The index of the rung that the next inference runs; shared by reference
/// between whoever decides and whoever infers.
#[derive(Debug)]
pub struct ActiveRung {
    rungs: u8,
    index: AtomicU8,
}

impl ActiveRung {
    /// Publishes rung `index` for the inferences that start from now on.
    ///
    /// # Errors
    /// If the ladder has no such rung; the active rung is then unchanged.
    pub fn set(&self, index: usize) -> Result<(), NoSuchRung> {
        if index >= usize::from(self.rungs) {
            return Err(NoSuchRung { rungs: usize::from(self.rungs), found: index });
        }
        // Relaxed: the index is all that is published. The table that it points
        // into does not change while this is shared.
        self.index.store(index as u8, Ordering::Relaxed);
        Ok(())
    }

    /// The rung published last; always one of the ladder.
    #[must_use]
    pub fn get(&self) -> usize {
        usize::from(self.index.load(Ordering::Relaxed))
    }
}
