//! What a checkpoint belongs to.

use headroom_device::bundle::manifest::sha256_hex;
use serde::{Deserialize, Serialize};

use crate::search::Problem;

/// Everything that decides the course of a fit, by name, in a fixed order.
///
/// The dense embeddings stand for the weights, the images and the executor, down
/// to the rounding of the machine. The budget and the other ends of a fit are not
/// here: a resumed fit may go on for longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint(Vec<(String, String)>);

/// One input in which a checkpoint and a run differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What differs.
    pub name: String,
    /// Its value, or the hash of it, in the checkpoint.
    pub checkpoint: String,
    /// The same in the run.
    pub run: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {} in the checkpoint, {} in this run", self.name, self.checkpoint, self.run)
    }
}

impl Fingerprint {
    pub(super) fn new(problem: &Problem<'_>, strategy_settings: String, dense: &[f32]) -> Self {
        let shape = problem.quanta.shape();
        let neuron_order = problem.quanta.neuron_orders().flatten().flat_map(|old| old.to_le_bytes());
        let scores = problem.quanta.scores().flat_map(f64::to_le_bytes);
        let start = problem.start.values().iter().flat_map(|value| value.to_le_bytes());
        let dense = dense.iter().flat_map(|value| value.to_le_bytes());
        let entries = [
            ("search", strategy_settings),
            ("sparsities", problem.sparsities.to_string()),
            ("arrangement", format!("{:?}", problem.arrangement)),
            ("blocks x heads x neurons", format!("{} x {} x {}", shape.blocks, shape.heads, shape.neurons)),
            ("floors (heads, neurons)", format!("{}, {}", shape.floor_heads, shape.floor_neurons)),
            ("importance", hash(neuron_order.chain(scores))),
            ("start", hash(start)),
            ("dense embeddings (model, images, machine)", hash(dense)),
        ];
        Self(entries.map(|(name, value)| (name.to_owned(), value)).to_vec())
    }

    /// In what `self`, of a checkpoint, differs from that of a run. Both list the
    /// same names: a checkpoint that lists others has another version.
    pub(super) fn differences(&self, run: &Self) -> Vec<Difference> {
        let differs = |((name, checkpoint), (_, run)): (&(String, String), &(String, String))| {
            (checkpoint != run).then(|| Difference {
                name: name.clone(),
                checkpoint: checkpoint.clone(),
                run: run.clone(),
            })
        };
        self.0.iter().zip(&run.0).filter_map(differs).collect()
    }
}

fn hash(bytes: impl Iterator<Item = u8>) -> String {
    sha256_hex(&bytes.collect::<Vec<u8>>())
}
