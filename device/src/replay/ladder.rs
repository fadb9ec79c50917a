//! The made-up ladder of a scenario.

use headroom_shared::{Energy, MAX_RUNGS, TimeSpan};
use serde::Deserialize;

use crate::governor::RungProfile;
use crate::plant::Work;

/// Fidelity by share of the dense model's MACs: the demo model's rungs, as the README shows them.
const FIDELITY: [(f64, f64); 7] =
    [(0.04, 0.4984), (0.17, 0.7316), (0.33, 0.9587), (0.50, 0.9878), (0.67, 0.9947), (0.83, 0.9984), (1.00, 1.0)];
/// The share of MACs that the smallest rung has.
const SMALLEST: f64 = 0.1;

/// A ladder by its dense rung. The others have evenly falling shares of its MACs.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LadderModel {
    pub rungs: usize,
    /// Of the dense rung.
    pub dense_milliseconds: f64,
    /// Of every rung, whatever its size; part of the above.
    #[serde(default)]
    pub overhead_milliseconds: f64,
    /// What an inference of the dense rung takes beyond idle power.
    pub dense_millijoules: f64,
    /// How many times longer an inference really takes than its profile says.
    #[serde(default = "one")]
    pub true_latency: f64,
    /// How many times more it really takes than its profile says.
    #[serde(default = "one")]
    pub true_energy: f64,
}

fn one() -> f64 {
    1.0
}

/// A rung: what the governor is told of it, and what it really takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimulatedRung {
    pub profile: RungProfile,
    pub work: Work,
}

impl LadderModel {
    /// # Errors
    /// What is wrong with it.
    pub fn validate(&self) -> Result<(), String> {
        if !(2..=MAX_RUNGS).contains(&self.rungs) {
            return Err(format!("a ladder of {} rungs: expected 2 to {MAX_RUNGS}", self.rungs));
        }
        let figures = [self.dense_milliseconds, self.dense_millijoules, self.true_latency, self.true_energy];
        if figures.iter().any(|figure| !(1e-3..1e6).contains(figure)) {
            return Err("a ladder's figures must be at least 0.001".into());
        }
        if (0.0..self.dense_milliseconds).contains(&self.overhead_milliseconds) {
            Ok(())
        } else {
            Err("overhead_milliseconds must be 0 or more and less than dense_milliseconds".into())
        }
    }

    /// The rungs on a board that idles at `idle_watts`, dense first.
    #[must_use]
    pub fn rungs(&self, idle_watts: f64) -> Vec<SimulatedRung> {
        (0..self.rungs).map(|index| self.rung(index, idle_watts)).collect()
    }

    fn rung(&self, index: usize, idle_watts: f64) -> SimulatedRung {
        let share = 1.0 - (1.0 - SMALLEST) * index as f64 / (self.rungs - 1) as f64;
        let overhead = self.overhead_milliseconds / self.dense_milliseconds;
        let scaled = overhead + (1.0 - overhead) * share;
        let (seconds, joules) = (self.dense_milliseconds * scaled * 1e-3, self.dense_millijoules * scaled * 1e-3);
        let profile = RungProfile {
            latency: TimeSpan::from_seconds(seconds).unwrap_or_default(),
            energy: Energy::from_joules(joules + idle_watts * seconds).unwrap_or_default(),
            fidelity: fidelity(share) as f32,
        };
        let work = Work { seconds: seconds * self.true_latency, joules: joules * self.true_energy };
        SimulatedRung { profile, work }
    }
}

fn fidelity(share: f64) -> f64 {
    let above = FIDELITY.iter().position(|(known, _)| *known >= share).unwrap_or(FIDELITY.len() - 1).max(1);
    let ((x0, y0), (x1, y1)) = (FIDELITY[above - 1], FIDELITY[above]);
    y0 + (y1 - y0) * (share - x0) / (x1 - x0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_fall_in_all_that_they_cost_and_are_worth() {
        let ladder = LadderModel {
            rungs: 24,
            dense_milliseconds: 28.0,
            overhead_milliseconds: 1.0,
            dense_millijoules: 550.0,
            true_latency: 1.0,
            true_energy: 1.0,
        };
        let rungs = ladder.rungs(5.4);
        assert_eq!(rungs[0].profile.fidelity, 1.0);
        assert_eq!(rungs[0].profile.latency, TimeSpan::from_nanoseconds(28_000_000));
        for pair in rungs.windows(2) {
            let (larger, smaller) = (pair[0].profile, pair[1].profile);
            assert!(larger.latency > smaller.latency && larger.energy > smaller.energy);
            assert!(larger.fidelity > smaller.fidelity);
        }
    }
}
