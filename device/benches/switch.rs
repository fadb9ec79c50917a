//! The time of a switch: publishing a rung and reading its sub-network, as the
//! next inference does. `cargo bench -p headroom-device --bench switch`
//!
//! That a switch and the inference after it allocate nothing is the test
//! `no_allocation`.

use std::hint::black_box;
use std::time::Instant;

use headroom_device::switch::RungTable;
use headroom_shared::{
    Energy, Ladder, MlpKind, ModelShape, Rung, Step, StepKind, StructureMap, SubNetwork, TimeSpan, cost,
};

/// Switches in one measurement: a single one is shorter than the clock's resolution.
const SWITCHES: usize = 10_000;
const MEASUREMENTS: usize = 101;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The size of ViT-B/16, with two rungs a block.
    let shape = ModelShape {
        blocks: 12,
        heads: 12,
        head_dim: 64,
        neurons: 3072,
        embed_dim: 768,
        tokens: 197,
        mlp: MlpKind::Plain,
        bytes_per_weight: 2,
        outside_macs: 0,
        outside_weight_bytes: 0,
        floor_heads: 0,
        floor_neurons: 0,
    };
    let removals = (0..12).filter_map(|block| Step::new(block, StepKind::Neurons));
    let steps: Vec<u8> = removals.flat_map(|step| [step.to_byte(); 384]).collect();
    let rung = |index: usize| -> Result<Rung<'static>, Box<dyn std::error::Error>> {
        let taken = index * steps.len() / 23;
        let sub_network = SubNetwork::after(&shape, &steps[..taken])?;
        Ok(Rung {
            steps: u32::try_from(taken)?,
            macs: cost::macs(&shape, &sub_network),
            weight_bytes: cost::weight_bytes(&shape, &sub_network),
            fidelity: 1.0,
            predicted_latency: TimeSpan::from_nanoseconds(1),
            predicted_energy: Energy::from_microjoules(1),
            measured_latency: None,
            measured_energy: None,
            token_schedule: &[0; 12],
        })
    };
    let rungs = (0..24).map(rung).collect::<Result<Vec<_>, _>>()?;
    let map = StructureMap::new(shape, [0; 32], &steps, Ladder::from_rungs(&rungs)?)?;
    let table = RungTable::new(&map);
    let active = table.active();

    let mut nanoseconds = Vec::with_capacity(MEASUREMENTS);
    for _ in 0..MEASUREMENTS {
        let start = Instant::now();
        for switch in 0..SWITCHES {
            active.set(black_box(switch % 24))?;
            black_box(table.get(active.get()));
        }
        nanoseconds.push(start.elapsed().as_secs_f64() * 1e9 / SWITCHES as f64);
    }
    nanoseconds.sort_by(f64::total_cmp);
    println!("switch: median {:.1} ns, slowest {:.1} ns", nanoseconds[MEASUREMENTS / 2], nanoseconds[MEASUREMENTS - 1]);
    Ok(())
}
