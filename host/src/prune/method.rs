//! The ways to rank the structures of a model.

/// How structures are scored and brought into one order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Method {
    /// What removing a structure costs in fidelity, per MAC, over all blocks at once ([`crate::sensitivity`]).
    #[default]
    Headroom,
    /// As published: a self-supervised Fisher term, and factors between blocks that an evolution strategy fits.
    Snapvit,
}

impl Method {
    /// The name that `--method` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Headroom => "headroom",
            Self::Snapvit => "snapvit",
        }
    }
}
