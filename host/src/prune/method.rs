//! The ways to rank the structures of a model.

/// How structures are scored and brought into one order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Method {
    /// What removing a structure costs in fidelity, per MAC, over all blocks at once.
    #[default]
    Headroom,
    /// As published: a self-supervised Fisher term, and factors between blocks that an evolution strategy fits.
    Snapvit,
    /// A baseline: the norm of a structure's weights.
    Magnitude,
    /// A baseline: layer-adaptive magnitude.
    Lamp,
    /// A baseline: gradient of the self-supervised loss times weight.
    SnipMagnitude,
    /// A baseline: no information at all.
    Random,
}

/// What is removed from attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AttentionUnits {
    /// Whole heads only. The weights are permuted and otherwise bit for bit the original ones.
    Heads,
    /// Dimensions inside heads too, in a basis that ranks them. The dense rung is the
    /// original model but for rounding.
    Dimensions,
}

/// Whether the rungs of a ladder merge similar tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenMerging {
    /// Fewer structures only.
    #[default]
    Off,
    /// For each rung the better mixture of fewer structures and fewer tokens.
    On,
    /// All structures at every rung.
    Only,
}

impl Method {
    /// The name that `--method` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Headroom => "headroom",
            Self::Snapvit => "snapvit",
            Self::Magnitude => "magnitude",
            Self::Lamp => "lamp",
            Self::SnipMagnitude => "snip-magnitude",
            Self::Random => "random",
        }
    }
}
