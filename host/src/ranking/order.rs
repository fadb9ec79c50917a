//! The order of removal under given factors, and the one ranking made of it.

use headroom_shared::{ModelShape, Step, StepKind};

use crate::ranking::path::Moment;
use crate::ranking::quanta::{by_falling_score, dims_after, neurons_after};
use crate::ranking::{Arrangement, Factors, Quanta, Selection, Sparsity, SparsityPath, StructureCosts};

/// For each kind of structure the order in which its quanta go, over all blocks.
///
/// Lowest score first; equal scores go by block, then by index: the higher index
/// first, because a block always loses the end of its sorted structures.
#[derive(Clone, Debug)]
pub struct RemovalOrder<'a> {
    quanta: &'a Quanta,
    /// The block of each neuron group, in order of removal.
    neurons: Vec<u8>,
    /// The share of all neurons that is gone when half of the group is.
    neuron_centres: Vec<f64>,
    /// The block and the head of each removable head, in order of removal.
    heads: Vec<(u8, u16)>,
    /// For each block its heads by falling score.
    head_orders: Vec<Vec<u16>>,
    /// Both kinds in one order, where they compare.
    merged: Option<Merged>,
}

/// All quanta in one order of removal.
#[derive(Clone, Debug)]
struct Merged {
    costs: StructureCosts,
    steps: Vec<Step>,
    /// The cost that is gone when half of the quantum is.
    centres: Vec<f64>,
}

/// How a model is permuted and in which order its structures then go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranking {
    /// For each block the order of its neurons, new position to old index.
    pub neurons: Vec<Vec<u16>>,
    /// For each block the order of its heads, new position to old index.
    pub heads: Vec<Vec<u16>>,
    /// The steps down to the floors, least important first, each as the byte of
    /// a structure map ([`Step::to_byte`]).
    pub steps: Vec<u8>,
}

impl<'a> RemovalOrder<'a> {
    /// Orders `quanta` under `factors`.
    ///
    /// # Panics
    /// If the factors are of another shape.
    #[must_use]
    pub fn new(quanta: &'a Quanta, factors: &Factors, arrangement: Arrangement) -> Self {
        let shape = quanta.shape();
        assert_eq!(
            factors.values().len(),
            quanta.blocks().len() * (1 + usize::from(shape.heads)),
            "factors of another shape"
        );
        let removable_heads = usize::from(shape.heads - shape.floor_heads);
        let mut groups = Vec::new();
        let mut heads = Vec::new();
        let mut head_orders = Vec::new();
        let (mut value_groups, mut query_groups) = (Vec::new(), Vec::new());
        for (block, block_quanta) in (0u8..).zip(quanta.blocks()) {
            let at = usize::from(block);
            value_groups.extend(block_quanta.value_groups.iter().map(|&local| (local, block)));
            query_groups.extend(block_quanta.query_groups.iter().map(|&local| (local, block)));
            groups.extend(block_quanta.groups.iter().map(|local| (local * factors.mlp(at), block)));
            let scores: Vec<f64> =
                block_quanta.heads.iter().enumerate().map(|(head, local)| local * factors.head(at, head)).collect();
            let order = by_falling_score(&scores);
            let removable = order.iter().rev().take(removable_heads);
            heads.extend(removable.map(|&head| (scores[usize::from(head)], (block, head))));
            head_orders.push(order);
        }
        // Stable sorts: the lists are in the order in which equal scores go.
        groups.sort_by(|a, b| a.0.total_cmp(&b.0));
        heads.sort_by(|a, b| a.0.total_cmp(&b.0));
        value_groups.sort_by(|a, b| a.0.total_cmp(&b.0));
        query_groups.sort_by(|a, b| a.0.total_cmp(&b.0));
        let merged = match arrangement {
            Arrangement::ByKind => None,
            Arrangement::ByCost(costs) => {
                Some(Merged::new(shape, &groups, &heads, [&value_groups, &query_groups], costs))
            }
        };
        let neurons: Vec<u8> = groups.into_iter().map(|(_, block)| block).collect();
        Self {
            merged,
            quanta,
            neuron_centres: neuron_centres(shape, &neurons),
            neurons,
            heads: heads.into_iter().map(|(_, head)| head).collect(),
            head_orders,
        }
    }

    /// What is left at `sparsity`: of each kind, or of the one order, the nearest
    /// whole number of quanta is removed, but never below a floor.
    #[must_use]
    pub fn selection(&self, sparsity: Sparsity) -> Selection {
        let shape = self.quanta.shape();
        if let Some(merged) = &self.merged {
            return self.selection_after(merged.steps_at(shape, sparsity));
        }
        let mut groups = vec![0; self.head_orders.len()];
        let gone = self.neuron_centres.partition_point(|centre| *centre <= sparsity.neurons);
        for &block in &self.neurons[..gone] {
            groups[usize::from(block)] += 1;
        }
        let mut kept_heads = self.head_orders.clone();
        let gone = (0..self.heads.len()).take_while(|&head| self.head_centre(head) <= sparsity.heads).count();
        for &(block, _) in &self.heads[..gone] {
            // A block loses the end of its sorted heads.
            kept_heads[usize::from(block)].pop();
        }
        kept_heads.iter_mut().for_each(|kept| kept.sort_unstable());
        let dims = vec![shape.head_dim; kept_heads.len()];
        let neurons = groups.into_iter().map(|gone| neurons_after(shape, gone)).collect();
        Selection::new(kept_heads, neurons, dims.clone(), dims)
    }

    /// What is left after these steps of any order that both kinds have.
    fn selection_after(&self, steps: &[Step]) -> Selection {
        let mut groups = vec![0; self.head_orders.len()];
        let (mut value_groups, mut query_groups) = (groups.clone(), groups.clone());
        let mut kept_heads = self.head_orders.clone();
        for step in steps {
            match step.kind() {
                StepKind::Neurons => groups[step.block()] += 1,
                StepKind::Head => drop(kept_heads[step.block()].pop()),
                StepKind::ValueDims => value_groups[step.block()] += 1,
                StepKind::QueryDims => query_groups[step.block()] += 1,
            }
        }
        kept_heads.iter_mut().for_each(|kept| kept.sort_unstable());
        let shape = self.quanta.shape();
        let neurons = groups.into_iter().map(|gone| neurons_after(shape, gone));
        let dims = |groups: Vec<usize>| groups.into_iter().map(|gone| dims_after(shape, gone)).collect();
        Selection::new(kept_heads, neurons.collect(), dims(value_groups), dims(query_groups))
    }

    /// The one order of removal: the merged one, or both orders merged along `path`.
    ///
    /// On a path, a quantum is due when the path reaches the middle of it, so the prefix at
    /// a corner of the path keeps exactly what [`RemovalOrder::selection`] keeps
    /// at that sparsity. Of a group and a head due at the same moment the group
    /// goes first.
    #[must_use]
    pub fn rank(&self, path: &SparsityPath) -> Ranking {
        let ranking = |steps: Vec<u8>| Ranking {
            neurons: self.quanta.neuron_orders().map(<[u16]>::to_vec).collect(),
            heads: self.head_orders.clone(),
            steps,
        };
        if let Some(merged) = &self.merged {
            return ranking(merged.steps.iter().map(|step| step.to_byte()).collect());
        }
        let neurons = self.neurons.iter().zip(&self.neuron_centres).map(|(&block, &centre)| {
            (path.moment_of(centre, |sparsity| sparsity.neurons), step(block, StepKind::Neurons))
        });
        let heads = self.heads.iter().enumerate().map(|(head, &(block, _))| {
            let centre = self.head_centre(head);
            (path.moment_of(centre, |sparsity| sparsity.heads), step(block, StepKind::Head))
        });
        let mut due: Vec<(Moment, Step)> = neurons.chain(heads).collect();
        due.sort_by(|a, b| a.0.total_cmp(&b.0));
        ranking(due.into_iter().map(|(_, step)| step.to_byte()).collect())
    }

    /// The share of all heads that is gone when half of the `head`-th one is.
    fn head_centre(&self, head: usize) -> f64 {
        let shape = self.quanta.shape();
        (head as f64 + 0.5) / (f64::from(shape.heads) * f64::from(shape.blocks))
    }
}

impl Merged {
    /// Merges the groups of neurons, of value and of query dimensions, all with their mean scores, and the heads, each
    /// in their own order. Of equal score per cost they go in this order.
    fn new(
        shape: &ModelShape,
        groups: &[(f64, u8)],
        heads: &[(f64, (u8, u16))],
        [values, queries]: [&[(f64, u8)]; 2],
        costs: StructureCosts,
    ) -> Self {
        let groups = groups.iter().map(|&(score, block)| (score / costs.neuron, step(block, StepKind::Neurons)));
        let heads = heads.iter().map(|&(score, (block, _))| (score / costs.head, step(block, StepKind::Head)));
        let values = values.iter().map(|&(score, block)| (score / costs.value_dim, step(block, StepKind::ValueDims)));
        let queries = queries.iter().map(|&(score, block)| (score / costs.query_dim, step(block, StepKind::QueryDims)));
        let mut due: Vec<(f64, Step)> = groups.chain(values).chain(queries).chain(heads).collect();
        due.sort_by(|a, b| a.0.total_cmp(&b.0));
        let steps: Vec<Step> = due.into_iter().map(|(_, step)| step).collect();

        let mut gone_groups = vec![0; usize::from(shape.blocks)];
        let (mut gone_values, mut gone_queries) = (gone_groups.clone(), gone_groups.clone());
        let dims_of = |groups: &mut usize| {
            *groups += 1;
            // Of all heads: a little too much where some are gone already.
            f64::from(shape.heads) * f64::from(dims_after(shape, *groups - 1) - dims_after(shape, *groups))
        };
        let mut gone = 0.0;
        let centres = steps.iter().map(|step| {
            let cost = match step.kind() {
                StepKind::Head => costs.head,
                StepKind::ValueDims => costs.value_dim * dims_of(&mut gone_values[step.block()]),
                StepKind::QueryDims => costs.query_dim * dims_of(&mut gone_queries[step.block()]),
                StepKind::Neurons => {
                    let groups = &mut gone_groups[step.block()];
                    *groups += 1;
                    costs.neuron * f64::from(neurons_after(shape, *groups - 1) - neurons_after(shape, *groups))
                }
            };
            gone += cost;
            gone - cost / 2.0
        });
        Self { costs, centres: centres.collect(), steps }
    }

    /// The steps down to the budget that `sparsity` names.
    fn steps_at(&self, shape: &ModelShape, sparsity: Sparsity) -> &[Step] {
        let neurons = sparsity.neurons * f64::from(shape.neurons) * self.costs.neuron;
        let heads = sparsity.heads * f64::from(shape.heads) * self.costs.head;
        let wanted = f64::from(shape.blocks) * (neurons + heads);
        &self.steps[..self.centres.partition_point(|centre| *centre <= wanted)]
    }
}

fn step(block: u8, kind: StepKind) -> Step {
    Step::new(block.into(), kind).expect("Quanta::new has refused shapes of more blocks than a step can name")
}

fn neuron_centres(shape: &ModelShape, order: &[u8]) -> Vec<f64> {
    let all = f64::from(shape.neurons) * f64::from(shape.blocks);
    let mut gone_groups = vec![0; usize::from(shape.blocks)];
    let mut gone = 0.0;
    let centre_of = |&block: &u8| {
        let groups = &mut gone_groups[usize::from(block)];
        let size = f64::from(neurons_after(shape, *groups) - neurons_after(shape, *groups + 1));
        *groups += 1;
        let centre = (gone + size / 2.0) / all;
        gone += size;
        centre
    };
    order.iter().map(centre_of).collect()
}

#[cfg(test)]
mod tests {
    use headroom_shared::{KeptStructures, SubNetwork};
    use proptest::prelude::*;

    use super::*;
    use crate::ranking::quanta::tests::shape;
    use crate::ranking::{Floors, Sparsities};

    /// A model, its local scores, its factors and the sparsities of a search.
    #[derive(Clone, Debug)]
    struct Case {
        quanta: Quanta,
        factors: Factors,
        path: SparsityPath,
        sparsities: Sparsities,
    }

    impl Case {
        fn order(&self, arrangement: Arrangement) -> RemovalOrder<'_> {
            RemovalOrder::new(&self.quanta, &self.factors, arrangement)
        }
    }

    /// A neuron and a head of the shapes above, unlike each other.
    const BY_COST: Arrangement =
        Arrangement::ByCost(StructureCosts { neuron: 3.0, head: 40.0, value_dim: 2.0, query_dim: 5.0 });

    /// Scores from a small set, so that there are many ties.
    fn scores(blocks: usize, each: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
        let score = prop_oneof![Just(0.0), Just(1.0), 0.0..3.0];
        prop::collection::vec(prop::collection::vec(score, each), blocks)
    }

    fn cases() -> impl Strategy<Value = Case> {
        let sizes = (1u8..6, 1u8..7, 1u16..70, 1u16..30);
        let shapes = (sizes, 0.0..1.0, 0.0..1.0).prop_map(|(sizes, floor_neurons, floor_heads)| {
            let (blocks, heads, neurons, head_dim) = sizes;
            let mut shape = ModelShape { head_dim, ..shape(blocks, heads, neurons) };
            Floors { neurons: floor_neurons, heads: floor_heads }.apply(&mut shape).expect("shares");
            shape
        });
        shapes.prop_flat_map(|shape| {
            let (blocks, heads) = (usize::from(shape.blocks), usize::from(shape.heads));
            let points = prop::collection::vec(-2.0..2.0, blocks * (1 + heads));
            let parts = (prop::collection::vec(0.0..1.0, 4), prop::collection::vec(0.0..1.0, 4));
            let dims = usize::from(shape.head_dim);
            let dimensions = (scores(blocks, heads * dims), scores(blocks, heads * dims));
            let local = (scores(blocks, shape.neurons.into()), scores(blocks, heads), dimensions);
            (local, points, parts).prop_filter_map("sparsities must rise", move |(local, point, mut parts)| {
                let (neurons, heads, (mut values, mut queries)) = local;
                for head in values.iter_mut().chain(&mut queries).flat_map(|block| block.chunks_mut(dims)) {
                    head.sort_by(|a, b| b.total_cmp(a));
                }
                let quanta = Quanta::new(&shape, &neurons, &heads)
                    .and_then(|quanta| quanta.with_value_dims(&values))
                    .and_then(|quanta| quanta.with_query_dims(&queries));
                let quanta = quanta.expect("scores of the shape");
                let limit = quanta.limit();
                parts.0.sort_by(f64::total_cmp);
                parts.1.sort_by(f64::total_cmp);
                let sparsities = parts
                    .0
                    .iter()
                    .zip(&parts.1)
                    .map(|(neurons, heads)| Sparsity { neurons: neurons * limit.neurons, heads: heads * limit.heads });
                let sparsities = Sparsities::new(sparsities.collect()).ok()?;
                let path = SparsityPath::new(&sparsities, limit).expect("within the limit");
                Some(Case { factors: Factors::from_point(&shape, &point).expect("finite"), quanta, path, sparsities })
            })
        })
    }

    /// The sub-network after `steps`, with heads named as before the permutation.
    fn selected(ranking: &Ranking, shape: &ModelShape, steps: usize) -> Selection {
        let left = SubNetwork::after(shape, &ranking.steps[..steps]).expect("never below a floor");
        let heads = ranking.heads.iter().enumerate().map(|(block, order)| {
            let mut kept = order[..left.heads(block)].to_vec();
            kept.sort_unstable();
            kept
        });
        let blocks = 0..left.blocks();
        let value_dims = blocks.clone().map(|block| left.value_dims(block) as u16).collect();
        let query_dims = blocks.map(|block| left.query_dims(block) as u16).collect();
        let neurons = left.counts().map(|(_, neurons)| neurons as u16).collect();
        Selection::new(heads.collect(), neurons, value_dims, query_dims)
    }

    fn is_permutation(order: &[u16], of: usize) -> bool {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        sorted.iter().map(|&index| usize::from(index)).eq(0..of)
    }

    proptest! {
        #[test]
        fn every_removable_quantum_goes_once_and_the_floors_stand(case in cases()) {
            let shape = case.quanta.shape();
            for arrangement in [Arrangement::ByKind, BY_COST] {
                let ranking = case.order(arrangement).rank(&case.path);
                let dimensions = if arrangement == BY_COST { 2 * shape.removable_dimension_steps() } else { 0 };
                prop_assert_eq!(ranking.steps.len(), shape.removable_steps() + dimensions);
                let last = SubNetwork::after(shape, &ranking.steps);
                prop_assert!(last.is_ok(), "{last:?}");
                for block in 0..usize::from(shape.blocks) {
                    prop_assert!(is_permutation(&ranking.neurons[block], shape.neurons.into()));
                    prop_assert!(is_permutation(&ranking.heads[block], shape.heads.into()));
                }
            }
        }

        #[test]
        fn each_scored_sub_network_is_a_prefix_of_the_ranking(case in cases()) {
            for arrangement in [Arrangement::ByKind, BY_COST] {
                let order = case.order(arrangement);
                let ranking = order.rank(&case.path);
                let prefixes: Vec<Selection> =
                    (0..=ranking.steps.len()).map(|steps| selected(&ranking, case.quanta.shape(), steps)).collect();
                for &sparsity in case.sparsities.as_slice() {
                    prop_assert!(prefixes.contains(&order.selection(sparsity)), "{sparsity}");
                }
            }
        }

        #[test]
        fn what_goes_first_by_cost_has_the_least_score_per_cost(case in cases()) {
            let shape = case.quanta.shape();
            let steps = case.order(BY_COST).rank(&case.path).steps;
            let mut gone = vec![(0, 0, 0, 0); usize::from(shape.blocks)];
            let mut before = 0.0;
            let head_orders = case.order(BY_COST).head_orders;
            for byte in steps {
                let step = Step::from_byte(byte);
                let block = step.block();
                let quanta = &case.quanta.blocks()[block];
                let ratio = match step.kind() {
                    StepKind::Neurons => {
                        gone[block].0 += 1;
                        quanta.groups[gone[block].0 - 1] * case.factors.mlp(block) / 3.0
                    }
                    StepKind::ValueDims => {
                        gone[block].2 += 1;
                        quanta.value_groups[gone[block].2 - 1] / 2.0
                    }
                    StepKind::QueryDims => {
                        gone[block].3 += 1;
                        quanta.query_groups[gone[block].3 - 1] / 5.0
                    }
                    StepKind::Head => {
                        gone[block].1 += 1;
                        let head = usize::from(head_orders[block][usize::from(shape.heads) - gone[block].1]);
                        quanta.heads[head] * case.factors.head(block, head) / 40.0
                    }
                };
                prop_assert!(ratio >= before, "{ratio} after {before}");
                before = ratio;
            }
        }

        #[test]
        fn a_selection_removes_what_was_asked_to_half_a_quantum(case in cases()) {
            let shape = case.quanta.shape();
            let order = case.order(Arrangement::ByKind);
            for &sparsity in case.sparsities.as_slice() {
                let kept = order.selection(sparsity);
                let blocks = 0..kept.blocks();
                let neurons: usize = blocks.clone().map(|block| kept.neurons(block)).sum();
                let heads: usize = blocks.map(|block| kept.heads(block)).sum();
                let all = |each: f64| each * f64::from(shape.blocks);
                let neurons_asked = all(shape.neurons.into()) * (1.0 - sparsity.neurons);
                let heads_asked = all(shape.heads.into()) * (1.0 - sparsity.heads);
                prop_assert!((neurons as f64 - neurons_asked).abs() <= 4.0 + 1e-9);
                prop_assert!((heads as f64 - heads_asked).abs() <= 0.5 + 1e-9);
            }
        }

        #[test]
        fn scaling_the_scores_of_one_kind_changes_nothing(case in cases(), exponent in -9..9i32) {
            // A power of two, so that no product is rounded.
            let scale = 2f64.powi(exponent);
            let factors = case.factors.values();
            let mlps = usize::from(case.quanta.shape().blocks);
            let scaled: Vec<f64> =
                factors.iter().enumerate().map(|(index, f)| if index < mlps { f * scale } else { *f }).collect();
            let scaled = Factors::from_point(case.quanta.shape(), &scaled).expect("finite");
            let rank = |factors| RemovalOrder::new(&case.quanta, factors, Arrangement::ByKind).rank(&case.path);
            prop_assert_eq!(rank(&scaled), rank(&case.factors));
        }
    }

    #[test]
    fn equal_scores_go_by_block_and_from_the_end() {
        let shape = shape(2, 2, 16);
        let quanta =
            Quanta::new(&shape, &[vec![1.0; 16], vec![1.0; 16]], &[vec![1.0; 2], vec![1.0; 2]]).expect("valid");
        let path = SparsityPath::new(&"0.5".parse().expect("a sparsity"), quanta.limit()).expect("within");
        let ranking = RemovalOrder::new(&quanta, &Factors::ones(&shape), Arrangement::ByKind).rank(&path);
        // Groups and heads are due in turn, the group of each pair first.
        assert_eq!(ranking.steps, [0b000, 0b001, 0b000, 0b001, 0b100, 0b101, 0b100, 0b101]);
        assert_eq!(ranking.heads, [[0, 1], [0, 1]]);
        assert_eq!(ranking.neurons[0], (0..16).collect::<Vec<u16>>());
    }

    #[test]
    fn a_factor_moves_a_whole_block_and_a_head_alone() {
        let shape = shape(2, 2, 8);
        let quanta =
            Quanta::new(&shape, &[vec![1.0; 8], vec![2.0; 8]], &[vec![1.0, 2.0], vec![3.0, 4.0]]).expect("valid");
        let kept = |point: &[f64], sparsity: &str| {
            let factors = Factors::from_point(&shape, point).expect("finite");
            RemovalOrder::new(&quanta, &factors, Arrangement::ByKind).selection(sparsity.parse().expect("a sparsity"))
        };
        let by_local_scores = kept(&[1.0; 6], "0.5/0.25");
        assert_eq!([by_local_scores.neurons(0), by_local_scores.neurons(1)], [0, 8]);
        assert_eq!([by_local_scores.kept_heads(0), by_local_scores.kept_heads(1)], [&[1][..], &[0, 1]]);
        let by_factors = kept(&[-3.0, 1.0, 9.0, 9.0, 9.0, 0.1], "0.5/0.25");
        assert_eq!([by_factors.neurons(0), by_factors.neurons(1)], [8, 0]);
        assert_eq!([by_factors.kept_heads(0), by_factors.kept_heads(1)], [&[0, 1][..], &[0]]);
    }
}
