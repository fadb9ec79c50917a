//! Whether heads and neurons compare, and what each of them costs.

use headroom_shared::roofline::{Roofline, Work};
use headroom_shared::{BoardProfile, ModelShape, Step, StepKind, SubNetwork, cost};

/// How the two kinds of structures come into one order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrangement {
    /// Scores of heads and of neurons are unlike units: each kind has its own
    /// order, and a [`SparsityPath`](super::SparsityPath) merges them.
    ByKind,
    /// All scores are in one unit: the least score per cost goes first,
    /// whatever it is of. A sparsity then names a budget: what the model costs
    /// without these shares of its neurons and heads.
    ByCost(StructureCosts),
}

/// What one structure costs. All blocks have the same sizes, so one number for
/// each kind says it all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StructureCosts {
    /// Of a neuron.
    pub neuron: f64,
    /// Of a head.
    pub head: f64,
    /// Of a value dimension of one head.
    pub value_dim: f64,
    /// Of a query dimension and its key dimension, of one head.
    pub query_dim: f64,
}

/// The cost by which structures are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum RankBy {
    /// Multiply-accumulates.
    #[default]
    Macs,
    /// Seconds on the target's roofline, which weighs MACs or bytes, whichever bounds the model there.
    Latency,
    /// Bytes of weights.
    WeightBytes,
}

impl RankBy {
    /// What a sub-network costs on a board.
    #[must_use]
    pub fn cost(self, shape: &ModelShape, sub_network: &SubNetwork, board: &BoardProfile) -> f64 {
        match self {
            Self::Macs => cost::macs(shape, sub_network) as f64,
            Self::WeightBytes => cost::weight_bytes(shape, sub_network) as f64,
            Self::Latency => Roofline::new(board, shape.bytes_per_weight).seconds(Work::of(shape, sub_network)),
        }
    }
}

impl StructureCosts {
    /// What the first neurons, head and value dimensions that go save of the dense model.
    #[must_use]
    pub fn new(shape: &ModelShape, by: RankBy, board: &BoardProfile) -> Self {
        let of = |sub_network: &SubNetwork| by.cost(shape, sub_network, board);
        let dense = SubNetwork::dense(shape);
        let saved = |kind: StepKind| {
            let mut smaller = dense;
            let removed = Step::new(0, kind).is_some_and(|step| smaller.remove(shape, step).is_ok());
            let structures = match kind {
                StepKind::Neurons => dense.neurons(0) - smaller.neurons(0),
                StepKind::Head => dense.heads(0) - smaller.heads(0),
                StepKind::ValueDims => dense.heads(0) * (dense.value_dims(0) - smaller.value_dims(0)),
                StepKind::QueryDims => dense.heads(0) * (dense.query_dims(0) - smaller.query_dims(0)),
            };
            // Where the floors keep all of a kind, its cost is never asked for.
            if removed { (of(&dense) - of(&smaller)) / structures as f64 } else { 1.0 }
        };
        Self {
            neuron: saved(StepKind::Neurons),
            head: saved(StepKind::Head),
            value_dim: saved(StepKind::ValueDims),
            query_dim: saved(StepKind::QueryDims),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards;
    use crate::ranking::quanta::tests::shape;

    #[test]
    fn costs_are_what_a_structure_saves() {
        let board = boards::find("jetson-orin").expect("a known board").profile;
        let model = ModelShape { embed_dim: 16, head_dim: 12, tokens: 5, ..shape(3, 2, 20) };
        let macs = StructureCosts::new(&model, RankBy::Macs, &board);
        // A neuron is a row of 16 and a column of 16, for 5 tokens; a head has 12 rows of each of q, k, v, 12
        // columns of the projection, and two products of 5 x 5 x 12.
        // A value dimension has a row, a column and its part of one product.
        let value_dim = f64::from(5 * 2 * 16 + 25);
        assert_eq!(
            macs,
            StructureCosts {
                neuron: 160.0,
                head: (5 * 16 * 12 * 4 + 2 * 25 * 12) as f64,
                value_dim,
                query_dim: value_dim
            }
        );
        let bytes = StructureCosts::new(&model, RankBy::WeightBytes, &board);
        let value_dim = 4.0 * 33.0;
        assert_eq!(
            bytes,
            StructureCosts { neuron: 4.0 * 33.0, head: 4.0 * (12 * 64 + 36) as f64, value_dim, query_dim: 4.0 * 34.0 }
        );
        let seconds = StructureCosts::new(&model, RankBy::Latency, &board);
        assert!(seconds.neuron > 0.0 && seconds.head > seconds.neuron);
    }

    #[test]
    fn a_kind_that_the_floors_keep_has_some_cost() {
        let board = boards::find("jetson-orin").expect("a known board").profile;
        let model = ModelShape { floor_heads: 2, ..shape(1, 2, 16) };
        assert_eq!(StructureCosts::new(&model, RankBy::Macs, &board).head, 1.0);
    }
}
