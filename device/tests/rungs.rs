//! Choosing rungs by budget and switching between them.

use headroom_device::budget::{Budget, Exceeded};
use headroom_device::switch::{NoSuchRung, RungTable};
use headroom_shared::{Energy, Ladder, MlpKind, ModelShape, Power, Rung, StructureMap, SubNetwork, TimeSpan, cost};

const SHAPE: ModelShape = ModelShape {
    blocks: 2,
    heads: 4,
    head_dim: 8,
    neurons: 64,
    embed_dim: 32,
    tokens: 17,
    mlp: MlpKind::Plain,
    bytes_per_weight: 4,
    outside_macs: 1000,
    outside_weight_bytes: 4000,
    floor_heads: 1,
    floor_neurons: 8,
};

/// A head or a group of neurons of block 0 or 1 in turn.
const STEPS: [u8; 12] = [0, 4, 1, 5, 0, 4, 1, 5, 0, 4, 0, 4];

/// Three rungs of 3, 2 and 1 ms, and 30, 20 and 15 mJ: 10, 10 and 15 W.
fn map(fidelities: [f32; 3]) -> StructureMap<'static> {
    let figures = [(0, 3, 30), (6, 2, 20), (12, 1, 15)];
    let mut ladder = Ladder::new();
    for ((steps, milliseconds, millijoules), fidelity) in figures.into_iter().zip(fidelities) {
        let sub_network = SubNetwork::after(&SHAPE, &STEPS[..steps]).expect("above the floors");
        let rung = Rung {
            steps: steps as u32,
            macs: cost::macs(&SHAPE, &sub_network),
            weight_bytes: cost::weight_bytes(&SHAPE, &sub_network),
            fidelity,
            predicted_latency: milliseconds_of(milliseconds),
            predicted_energy: Energy::from_microjoules(millijoules * 1000),
            measured_latency: None,
            measured_energy: None,
            token_schedule: &[0, 0],
        };
        ladder.push(rung).expect("three rungs");
    }
    StructureMap::new(SHAPE, [0; 32], &STEPS, ladder).expect("valid")
}

fn milliseconds_of(milliseconds: u64) -> TimeSpan {
    TimeSpan::from_nanoseconds(milliseconds * 1_000_000)
}

const FALLING: [f32; 3] = [1.0, 0.9, 0.5];

#[test]
fn no_limit_is_the_dense_model() {
    assert_eq!(Budget::default().choose(map(FALLING).rungs()), Ok(0));
}

#[test]
fn the_highest_fidelity_that_fits_wins() {
    let map = map(FALLING);
    let macs: Vec<u64> = map.rungs().iter().map(|rung| rung.macs).collect();
    let choose = |budget: Budget| budget.choose(map.rungs());
    assert_eq!(choose(Budget { macs: Some(macs[0]), ..Budget::default() }), Ok(0));
    assert_eq!(choose(Budget { macs: Some(macs[0] - 1), ..Budget::default() }), Ok(1));
    assert_eq!(choose(Budget { latency: Some(milliseconds_of(2)), ..Budget::default() }), Ok(1));
    assert_eq!(choose(Budget { energy: Some(Energy::from_microjoules(19_999)), ..Budget::default() }), Ok(2));
    // All limits at once: the tightest decides.
    let both = Budget { macs: Some(macs[0]), latency: Some(milliseconds_of(1)), ..Budget::default() };
    assert_eq!(choose(both), Ok(2));
    // The smallest rung draws the most power, because it never waits for memory.
    assert_eq!(choose(Budget { power: Some(Power::from_milliwatts(10_000)), ..Budget::default() }), Ok(0));
}

#[test]
fn a_smaller_rung_of_the_same_or_higher_fidelity_is_preferred() {
    assert_eq!(Budget::default().choose(map([0.9, 0.9, 0.5]).rungs()), Ok(1));
    assert_eq!(Budget::default().choose(map([0.9, 0.5, 0.95]).rungs()), Ok(2));
}

#[test]
fn nothing_fits_names_what_the_smallest_needs() {
    let map = map(FALLING);
    let smallest = map.rungs()[2];
    let refused = |budget: Budget| {
        let error = budget.choose(map.rungs()).expect_err("nothing fits");
        assert_eq!(error.smallest, 2);
        (error.exceeded, error.to_string())
    };
    let (exceeded, message) =
        refused(Budget { latency: Some(TimeSpan::from_nanoseconds(500_000)), ..Budget::default() });
    let allowed = TimeSpan::from_nanoseconds(500_000);
    assert_eq!(exceeded, Exceeded::Latency { allowed, needed: milliseconds_of(1) });
    assert_eq!(message, "no rung fits the budget: the smallest, rung 2, needs 1.000 ms, allowed 0.500 ms");
    let (exceeded, _) = refused(Budget { macs: Some(1), ..Budget::default() });
    assert_eq!(exceeded, Exceeded::Macs { allowed: 1, needed: smallest.macs });
    let (_, message) = refused(Budget { energy: Some(Energy::from_microjoules(1)), ..Budget::default() });
    assert!(message.ends_with("needs 15.000 mJ, allowed 0.001 mJ"), "{message}");
    let (_, message) = refused(Budget { power: Some(Power::from_milliwatts(9_999)), ..Budget::default() });
    assert!(message.ends_with("needs 15.000 W, allowed 9.999 W"), "{message}");
}

#[test]
fn measured_figures_count_before_predicted_ones() {
    let mut rungs = map(FALLING).rungs().to_vec();
    rungs[0].measured_latency = Some(milliseconds_of(1));
    let ladder = Ladder::from_rungs(&rungs).expect("three rungs");
    let map = StructureMap::new(SHAPE, [0; 32], &STEPS, ladder).expect("valid");
    assert_eq!(Budget { latency: Some(milliseconds_of(1)), ..Budget::default() }.choose(map.rungs()), Ok(0));
}

#[test]
fn the_table_holds_the_sub_network_of_every_rung() {
    let map = map(FALLING);
    let table = RungTable::new(&map);
    assert_eq!(table.sub_networks().len(), map.rungs().len());
    for (index, rung) in map.rungs().iter().enumerate() {
        assert_eq!(table.get(index), Some(&map.sub_network_after(rung.steps as usize)));
    }
    assert_eq!(table.get(3), None);
    assert_eq!(table.get(2).expect("the smallest").to_string(), "2x8/8+32 2x8/8+32");
}

#[test]
fn the_rung_published_last_is_active() {
    let active = RungTable::new(&map(FALLING)).active();
    assert_eq!(active.get(), 0);
    assert_eq!(active.set(2), Ok(()));
    assert_eq!(active.set(1), Ok(()));
    assert_eq!(active.get(), 1);
    let error = active.set(3).expect_err("three rungs");
    assert_eq!(error, NoSuchRung { rungs: 3, found: 3 });
    assert_eq!(error.to_string(), "rung 3 of a ladder with 3 rungs (0 is the dense one)");
    assert_eq!(active.get(), 1, "a refused switch changes nothing");
}

/// One thread publishes, others read: every reading is one of the ladder, and
/// the last one published is what stays.
#[test]
fn threads_publish_and_read_without_waiting() {
    let active = RungTable::new(&map(FALLING)).active();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..30_000).for_each(|turn| active.set(turn % 3).expect("a rung")));
        for _ in 0..2 {
            scope.spawn(|| (0..30_000).for_each(|_| assert!(active.get() < 3)));
        }
    });
    assert_eq!(active.get(), 29_999 % 3);
}
