//! What the governor is measured against: a chooser that knows the plant.
//!
//! It sees the true temperatures of both nodes, every parameter of the board,
//! the other work, the arrival of frames, and the very latency that the next
//! inference is going to have. Before every inference it takes the rung of the
//! highest fidelity whose true latency meets the deadline, whose true power at
//! the true rate meets the power cap, whose true energy meets the energy limit
//! and whose heat leaves the die at or below its target with the heatsink as
//! warm as it is: P <= (target - sink) / resistance of the die. It needs no
//! margin, no dwell and no sensor, and may switch before every inference. Where
//! no rung is cool enough, it paces the smallest to that power.
//!
//! It looks no further ahead than the next inference, so that a chooser that
//! saved heat for later could be better on the average of a whole run; there is
//! no such chooser here, and the report may show a governor above its oracle.

use super::SimulatedRung;
use crate::governor::Limits;
use crate::plant::Plant;

/// A choice: the rung and the seconds between the starts of two inferences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OracleChoice {
    pub rung: usize,
    pub pace: f64,
}

/// Chooses for the next inference, which takes `noise` times what it should.
#[must_use]
pub fn choose(
    plant: &Plant,
    rungs: &[SimulatedRung],
    limits: &Limits,
    frames_per_second: Option<f64>,
    noise: f64,
) -> OracleChoice {
    let unlimited = f64::INFINITY;
    let celsius = |limits: &crate::governor::TemperatureLimits| f64::from(limits.target.as_millidegrees()) * 1e-3;
    let heat = limits
        .temperature
        .as_ref()
        .map_or(unlimited, |limits| (celsius(limits) - plant.thermal().sink) / plant.board().die_kelvin_per_watt);
    let cap = limits.power.map_or(unlimited, |power| power.as_watts());
    let budget = heat.min(cap) - plant.power_without_work();
    let deadline = limits.deadline.map_or(unlimited, |deadline| deadline.latency.as_seconds());
    let energy_limit = limits.energy.map_or(unlimited, |energy| energy.as_joules());
    let minimum = limits.minimum_fidelity.unwrap_or(-1.0);
    let useful = |rung: &usize| rungs[*rung].profile.fidelity >= minimum;
    let latency = |rung: usize| plant.latency(&rungs[rung].work) * noise;
    let joules = |rung: usize| plant.joules(&rungs[rung].work);
    let rate = |rung: usize| frames_per_second.map_or(unlimited, |asked| asked).min(1.0 / latency(rung));
    let cool = |rung: &usize| joules(*rung) * rate(*rung) <= budget;
    let energy = |rung: usize| joules(rung) + plant.board().idle_watts * latency(rung);
    let excess = |rung: &usize| (latency(*rung) / deadline).max(energy(*rung) / energy_limit);
    let fidelity = |a: &usize, b: &usize| rungs[*a].profile.fidelity.total_cmp(&rungs[*b].profile.fidelity);
    let all = || (0..rungs.len()).filter(useful);
    if let Some(rung) = all().filter(cool).filter(|rung| excess(rung) <= 1.0).max_by(fidelity) {
        return OracleChoice { rung, pace: 0.0 };
    }
    if let Some(rung) = all().filter(cool).min_by(|a, b| excess(a).total_cmp(&excess(b))) {
        return OracleChoice { rung, pace: 0.0 };
    }
    let rung = all().min_by(|a, b| joules(*a).total_cmp(&joules(*b))).unwrap_or(rungs.len() - 1);
    // As long a pause as a governor may make where the board alone is too warm.
    let pace = if budget > 0.0 { (joules(rung) / budget).min(2.0) } else { 2.0 };
    OracleChoice { rung, pace }
}
