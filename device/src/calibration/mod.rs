//! Measuring what each rung costs on the machine that this runs on.
//!
//! [`RungTimer`] times, [`mean_powers`] reads the power of each, and
//! [`calibrate`] makes a [`MeasuredProfile`] of both.

mod energy;
mod timing;

pub use energy::{Dwell, mean_powers};
pub use timing::{RungTimer, RungTimes};

use headroom_shared::Power;

use crate::measured_profile::{Key, MeasuredProfile, MeasuredRung};
use crate::reading::Measurement;
use crate::rung_engine::RungEngineError;

/// Times every rung `repetitions` times, in turns, and where `power` can be read also measures the energy of each.
///
/// # Errors
/// If the engine refuses a rung.
pub fn calibrate(
    timer: &mut RungTimer<'_>,
    key: Key,
    repetitions: u32,
    dwell: Dwell,
    mut power: impl FnMut() -> Measurement<Power>,
) -> Result<MeasuredProfile, RungEngineError> {
    let every: Vec<usize> = (0..timer.rungs()).collect();
    let times = timer.take_turns(&every, repetitions)?;
    let powers = mean_powers(timer, dwell, &mut power)?;
    let map = timer.engine().bundle().structure_map();
    let rungs = map.rungs().iter().zip(&times).enumerate().map(|(index, (rung, times))| {
        let latency = times.median();
        let power = powers.as_ref().map(|powers| powers[index]);
        MeasuredRung { macs: rung.macs, latency, energy: power.map(|power| power.during(latency)) }
    });
    Ok(MeasuredProfile::new(key, repetitions, rungs.collect()))
}
