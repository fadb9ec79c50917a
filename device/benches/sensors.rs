//! The time of a pass over the sensors: `cargo bench -p headroom-device --bench sensors`
//!
//! On a fake Orin Nano, whose files cost a system call each but no message to a
//! chip, and on this machine's own `/sys`. That a pass allocates nothing is the
//! test `no_allocation`.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use headroom_device::sources::Sensors;
use headroom_shared::{TimeSpan, board_file};

#[path = "../../tests/trees/mod.rs"]
mod trees;

const PASSES: usize = 1001;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let board = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../boards/jetson-orin-nano/board.toml"))?;
    let profile = board_file::parse(&board)?;
    let tree = trees::FakeTree::of("jetson-orin-nano-r36");
    measure("fake Orin Nano", &mut Sensors::discover(tree.root(), Some(&profile)));
    measure("this machine", &mut Sensors::discover(Path::new("/"), None));
    Ok(())
}

fn measure(name: &str, sensors: &mut Sensors) {
    // Time stands still, so that nothing is looked for again.
    let now = TimeSpan::default();
    let devices = sensors.zones().len()
        + sensors.chip_temperatures().len()
        + sensors.cooling_devices().len()
        + sensors.rails().len()
        + sensors.energy_counters().len()
        + sensors.over_current_counters().len()
        + sensors.gpus().len()
        + sensors.cpu_clocks().len()
        + sensors.power_supplies().len();
    let governor = median(|| {
        black_box(sensors.read(now));
    });
    let everything = median(|| {
        black_box(sensors.read_everything(now));
    });
    let look = median(|| sensors.rediscover());
    println!(
        "{name} ({devices} devices): a pass for the governor {governor:.3} ms, over everything {everything:.3} ms, \
         looking for all of it again {look:.3} ms (medians of {PASSES})"
    );
}

fn median(mut pass: impl FnMut()) -> f64 {
    let mut milliseconds: Vec<f64> = (0..PASSES)
        .map(|_| {
            let start = Instant::now();
            pass();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    milliseconds.sort_by(f64::total_cmp);
    milliseconds[PASSES / 2]
}
