//! The mean power of every rung.
//!
//! A power rail is averaged by its chip over up to half a second and a board's
//! fan and regulators follow slower still, so that a rung must run for a while
//! before its power can be read. Rungs take two turns, forth and back, so that
//! a board that warms up meanwhile (and draws more for the same work) burdens
//! all of them alike.

use std::time::{Duration, Instant};

use headroom_shared::Power;

use super::timing::RungTimer;
use crate::reading::Measurement;
use crate::rung_engine::RungEngineError;

/// How long a rung runs in one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dwell {
    /// Until the rails show this rung and not the one before: INA3221 rails lag by up to 0.43 s
    /// (`jetson-facts.md`, power rails).
    pub settle: Duration,
    /// While power is read.
    pub measure: Duration,
}

impl Default for Dwell {
    fn default() -> Self {
        Self { settle: Duration::from_secs(1), measure: Duration::from_secs(1) }
    }
}

/// Between two readings of the power; a rail is not renewed more often.
const SAMPLE_PERIOD: Duration = Duration::from_millis(100);

/// The mean power of the whole board while each rung runs without a pause; `None` where it cannot be read, which is
/// known at once.
///
/// # Errors
/// If the engine refuses a rung.
pub fn mean_powers(
    timer: &mut RungTimer<'_>,
    dwell: Dwell,
    power: &mut dyn FnMut() -> Measurement<Power>,
) -> Result<Option<Vec<Power>>, RungEngineError> {
    // Counters of energy tell a power only from their second reading on.
    let _ = power();
    std::thread::sleep(SAMPLE_PERIOD);
    if !matches!(power(), Measurement::Measured(_)) {
        return Ok(None);
    }
    let rungs = timer.rungs();
    let mut readings = vec![Vec::new(); rungs];
    for rung in (0..rungs).chain((0..rungs).rev()) {
        run_for(dwell.settle, timer, rung, || {})?;
        // What is read now is over the time since the reading before.
        let _ = power();
        run_for(dwell.measure, timer, rung, || {
            // A projected value is one of an earlier moment.
            if let Measurement::Measured(value) = power() {
                readings[rung].push(value);
            }
        })?;
    }
    Ok(readings.iter().map(|readings| mean(readings)).collect())
}

/// Runs a rung for `time`, and at least once, and calls `sample` at each period and at the end.
fn run_for(
    time: Duration,
    timer: &mut RungTimer<'_>,
    rung: usize,
    mut sample: impl FnMut(),
) -> Result<(), RungEngineError> {
    let start = Instant::now();
    let mut sampled = start;
    loop {
        timer.run(rung)?;
        let now = Instant::now();
        let ends = now - start >= time;
        if ends || now - sampled >= SAMPLE_PERIOD {
            sample();
            sampled = now;
        }
        if ends {
            return Ok(());
        }
    }
}

fn mean(readings: &[Power]) -> Option<Power> {
    let sum: u64 = readings.iter().map(|power| u64::from(power.as_milliwatts())).sum();
    let mean = sum.checked_div(readings.len() as u64)?;
    u32::try_from(mean).ok().map(Power::from_milliwatts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_nothing_is_not_known() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[u32::MAX, u32::MAX].map(Power::from_milliwatts)), Some(Power::from_milliwatts(u32::MAX)));
        assert_eq!(mean(&[4, 7].map(Power::from_milliwatts)), Some(Power::from_milliwatts(5)));
    }
}
