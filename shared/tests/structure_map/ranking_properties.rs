//! Any ranking of any shape round-trips, and replaying its first steps gives
//! the counts of a naive model.

use headroom_shared::structure_map::{self, StructureMap};
use headroom_shared::{Energy, Ladder, MlpKind, ModelShape, Rung, Step, StepKind, SubNetwork, TimeSpan, cost};
use proptest::prelude::*;

/// A block as the set of its groups of neurons and of its heads.
struct NaiveBlock {
    groups: Vec<Vec<usize>>,
    heads: Vec<usize>,
    value_groups: Vec<Vec<usize>>,
    query_groups: Vec<Vec<usize>>,
}

fn naive_blocks(shape: &ModelShape) -> Vec<NaiveBlock> {
    let groups = |all: u16| -> Vec<Vec<usize>> {
        (0..usize::from(all)).collect::<Vec<_>>().chunks(8).map(<[usize]>::to_vec).collect()
    };
    (0..shape.blocks)
        .map(|_| NaiveBlock {
            groups: groups(shape.neurons),
            value_groups: groups(shape.head_dim),
            query_groups: groups(shape.head_dim),
            heads: (0..usize::from(shape.heads)).collect(),
        })
        .collect()
}

prop_compose! {
    fn shapes()(
        blocks in 1_u8..=64,
        heads in 1_u8..=16,
        neurons in 1_u16..=200,
        head_dim in 1_u16..=40,
        gated: bool,
        floors in (0.0_f64..=1.0, 0.0_f64..=1.0),
    ) -> ModelShape {
        ModelShape {
            blocks,
            heads,
            head_dim,
            neurons,
            embed_dim: 48,
            tokens: 17,
            mlp: if gated { MlpKind::Gated } else { MlpKind::Plain },
            bytes_per_weight: 2,
            outside_macs: 1000,
            outside_weight_bytes: 2000,
            floor_heads: (f64::from(heads) * floors.0) as u8,
            floor_neurons: (f64::from(neurons) * floors.1) as u16,
        }
    }
}

/// Every removable quantum of a shape in any order, found without the code under test.
fn shapes_and_rankings() -> impl Strategy<Value = (ModelShape, Vec<u8>)> {
    shapes().prop_flat_map(|shape| {
        let mut steps = Vec::new();
        for block in 0..shape.blocks {
            let groups = (0..shape.neurons).step_by(8).filter(|first| *first >= shape.floor_neurons).count();
            steps.extend(std::iter::repeat_n(block << 2, groups));
            let heads = usize::from(shape.heads - shape.floor_heads);
            steps.extend(std::iter::repeat_n((block << 2) | 1, heads));
            // The first group stays.
            let groups = (0..shape.head_dim).step_by(8).skip(1).count();
            steps.extend(std::iter::repeat_n((block << 2) | 2, groups));
            steps.extend(std::iter::repeat_n((block << 2) | 3, groups));
        }
        (Just(shape), Just(steps).prop_shuffle())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn replaying_equals_the_naive_model((shape, steps) in shapes_and_rankings()) {
        prop_assert_eq!(steps.len(), shape.removable_steps() + 2 * shape.removable_dimension_steps());
        let mut naive = naive_blocks(&shape);
        for taken in 0..=steps.len() {
            let left = SubNetwork::after(&shape, &steps[..taken]).expect("a ranking of this shape");
            let expected: Vec<(usize, usize)> = naive
                .iter()
                .map(|block| (block.heads.len(), block.groups.iter().map(Vec::len).sum()))
                .collect();
            prop_assert_eq!(left.counts().collect::<Vec<_>>(), expected.clone());
            let whole_heads = naive.iter().all(|block| {
                [&block.value_groups, &block.query_groups].map(|groups| groups.concat().len())
                    == [usize::from(shape.head_dim); 2]
            });
            prop_assert_eq!(SubNetwork::from_counts(&shape, &expected) == Ok(left), whole_heads);
            for (block, naive) in naive.iter().enumerate() {
                prop_assert_eq!(left.value_dims(block), naive.value_groups.concat().len());
                prop_assert_eq!(left.query_dims(block), naive.query_groups.concat().len());
            }
            if let Some(&byte) = steps.get(taken) {
                let step = Step::from_byte(byte);
                let block = &mut naive[step.block()];
                match step.kind() {
                    StepKind::Neurons => drop(block.groups.pop()),
                    StepKind::Head => drop(block.heads.pop()),
                    StepKind::ValueDims => drop(block.value_groups.pop()),
                    StepKind::QueryDims => drop(block.query_groups.pop()),
                }
            }
        }
        // Nothing is left that could be removed.
        for block in 0..usize::from(shape.blocks) {
            for kind in [StepKind::Neurons, StepKind::Head, StepKind::ValueDims, StepKind::QueryDims] {
                let more = [&steps[..], &[Step::new(block, kind).expect("in range").to_byte()]].concat();
                prop_assert!(SubNetwork::after(&shape, &more).is_err());
            }
        }
    }

    #[test]
    fn every_ranking_round_trips((shape, steps) in shapes_and_rankings(), hash: [u8; 32], fidelity in -1.0_f32..=1.0) {
        let schedule = vec![0; usize::from(shape.blocks)];
        let mut ladder = Ladder::new();
        let half = steps.len() / 2;
        for taken in if half == 0 { vec![0] } else { vec![0, half] } {
            let sub_network = SubNetwork::after(&shape, &steps[..taken]).expect("a ranking of this shape");
            ladder.push(Rung {
                steps: taken as u32,
                macs: cost::macs(&shape, &sub_network),
                weight_bytes: cost::weight_bytes(&shape, &sub_network),
                fidelity,
                predicted_latency: TimeSpan::from_nanoseconds(u64::MAX),
                predicted_energy: Energy::from_microjoules(1),
                measured_latency: (taken > 0).then(|| TimeSpan::from_nanoseconds(5)),
                measured_energy: None,
                token_schedule: &schedule,
            }).expect("two rungs fit");
        }
        let map = StructureMap::new(shape, hash, &steps, ladder).expect("valid");
        let mut bytes = vec![0; structure_map::encoded_bound(steps.len())];
        let length = map.write(&mut bytes).expect("the bound is enough");
        let read = StructureMap::read(&bytes[..length]).expect("what was written");
        prop_assert_eq!(&read, &map);
        let mut again = vec![0; length];
        prop_assert_eq!(read.write(&mut again), Ok(length));
        prop_assert_eq!(&again[..], &bytes[..length]);
    }

    #[test]
    fn merging_more_tokens_never_costs_more(
        (shape, steps) in shapes_and_rankings(),
        schedule in prop::collection::vec(0_u8..12, 64),
        place in 0_usize..64,
    ) {
        let blocks = usize::from(shape.blocks);
        let kept = SubNetwork::after(&shape, &steps[..steps.len() / 2]).expect("a ranking of this shape");
        let mut tokens = shape.tokens;
        let mut schedule = schedule[..blocks].to_vec();
        for merged in &mut schedule {
            *merged = (*merged).min((tokens / 2).min(u16::from(u8::MAX)) as u8);
            tokens -= u16::from(*merged);
        }
        let more = kept.with_token_schedule(&shape, &schedule).expect("at most half");
        prop_assert_eq!(more.token_schedule(), &schedule[..]);
        let left: usize = (0..blocks).map(|block| more.merged_tokens(block)).sum();
        prop_assert_eq!(usize::from(shape.tokens) - left, usize::from(tokens));
        schedule[place % blocks] = 0;
        let fewer = kept.with_token_schedule(&shape, &schedule).expect("fewer than allowed");
        for cost in [cost::macs, cost::activation_bytes] {
            prop_assert!(cost(&shape, &more) <= cost(&shape, &fewer));
        }
        prop_assert_eq!(cost::weight_bytes(&shape, &more), cost::weight_bytes(&shape, &kept));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let framed = [&b"HEADRMAP\x01\0\0\0"[..], &bytes].concat();
        prop_assert!(StructureMap::read(&bytes).is_err());
        prop_assert!(StructureMap::read(&framed).is_err());
        let _ = SubNetwork::after(&ModelShape { blocks: 3, ..any_shape() }, &bytes);
    }
}

fn any_shape() -> ModelShape {
    ModelShape {
        blocks: 1,
        heads: 2,
        head_dim: 4,
        neurons: 30,
        embed_dim: 8,
        tokens: 5,
        mlp: MlpKind::Plain,
        bytes_per_weight: 4,
        outside_macs: 0,
        outside_weight_bytes: 0,
        floor_heads: 0,
        floor_neurons: 0,
    }
}
