//! Rankings and rungs to test with, and a map of the size of ViT-B/16.

use headroom_shared::{
    Energy, Ladder, MlpKind, ModelShape, Rung, Step, StepKind, StructureMap, SubNetwork, TimeSpan, cost,
};

pub const RUNGS: usize = 24;

/// `vit_base_patch16_224` in f16 without floors.
pub fn shape() -> ModelShape {
    ModelShape {
        blocks: 12,
        heads: 12,
        head_dim: 64,
        neurons: 3072,
        embed_dim: 768,
        tokens: 197,
        mlp: MlpKind::Plain,
        bytes_per_weight: 2,
        outside_macs: 196 * 768 * 768 + 768 * 1000,
        outside_weight_bytes: 2 * (768 * 768 + 768 + 768 + 197 * 768 + 2 * 768 + 768 * 1000 + 1000),
        floor_heads: 0,
        floor_neurons: 0,
    }
}

/// Every removable quantum of `shape` once, in an order that depends only on `seed`.
pub fn ranking(shape: &ModelShape, seed: u64) -> Vec<u8> {
    let groups = shape.neurons.div_ceil(8) - shape.floor_neurons.div_ceil(8);
    let heads = shape.heads - shape.floor_heads;
    let dims = shape.removable_dimension_steps() / usize::from(shape.blocks);
    let kinds = [
        (StepKind::Neurons, usize::from(groups)),
        (StepKind::Head, usize::from(heads)),
        (StepKind::ValueDims, dims),
        (StepKind::QueryDims, dims),
    ];
    let mut steps = Vec::new();
    for block in 0..usize::from(shape.blocks) {
        for (kind, count) in kinds {
            let step = Step::new(block, kind).expect("a block below 64").to_byte();
            steps.extend(std::iter::repeat_n(step, count));
        }
    }
    // Fisher-Yates with Knuth's MMIX generator.
    let mut state = seed;
    for last in (1..steps.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        steps.swap(last, (state >> 33) as usize % (last + 1));
    }
    steps
}

/// `count` rungs at even numbers of steps, each with figures as wide as real ones.
pub fn rungs<'a>(shape: &ModelShape, steps: &[u8], count: usize, schedule: &'a [u8]) -> Vec<Rung<'a>> {
    let rung = |index: usize| {
        let taken = steps.len() * index / count;
        let sub_network = SubNetwork::after(shape, &steps[..taken]).expect("a ranking of this shape");
        let macs = cost::macs(shape, &sub_network);
        Rung {
            steps: taken as u32,
            macs,
            weight_bytes: cost::weight_bytes(shape, &sub_network),
            fidelity: 1.0 - index as f32 / count as f32,
            predicted_latency: TimeSpan::from_nanoseconds(macs / 2_800),
            predicted_energy: Energy::from_microjoules(macs / 110_000),
            measured_latency: Some(TimeSpan::from_nanoseconds(macs / 2_500)),
            measured_energy: Some(Energy::from_microjoules(macs / 100_000)),
            token_schedule: schedule,
        }
    };
    (0..count).map(rung).collect()
}

/// The file.
pub fn encoded() -> Vec<u8> {
    let (shape, schedule) = (shape(), [0; 12]);
    let steps = ranking(&shape, 7);
    let ladder = Ladder::from_rungs(&rungs(&shape, &steps, RUNGS, &schedule)).expect("24 rungs fit");
    let map = StructureMap::new(shape, [0x5a; 32], &steps, ladder).expect("valid");
    let mut bytes = vec![0; headroom_shared::structure_map::encoded_bound(steps.len())];
    let length = map.write(&mut bytes).expect("the bound is enough");
    bytes.truncate(length);
    bytes
}
