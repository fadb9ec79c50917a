//! Turns headroom into the active rung: a pure function of state, reading and time.

mod decision;
mod limits;
mod names;

pub use decision::{Binding, Decision, Mode, Slowdown};
pub use limits::{Deadline, Limits, TemperatureLimits};

use headroom_shared::{Energy, List, MAX_RUNGS, TimeSpan};

use crate::reading::Reading;

/// What one rung costs and is worth, from the ladder or measured on the board.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RungProfile {
    pub latency: TimeSpan,
    /// Of one inference, the board's idle power during it included.
    pub energy: Energy,
    pub fidelity: f32,
}

/// Why there is no governor of such a profile and such limits.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GovernorError {
    #[error("a ladder without rungs")]
    NoRungs,
}

/// Decides; what does not change while it runs.
#[derive(Clone, Debug)]
pub struct Governor {
    rungs: List<RungProfile, MAX_RUNGS>,
    limits: Limits,
}

/// What a governor remembers between steps.
#[derive(Clone, Debug)]
pub struct State {
    rung: u8,
}

impl Governor {
    /// A governor of these rungs, dense first.
    ///
    /// # Errors
    /// If profile or limits make no sense together.
    pub fn new(rungs: &[RungProfile], limits: Limits) -> Result<Self, GovernorError> {
        let mut list = List::new();
        for rung in rungs {
            list.push(*rung).map_err(|_| GovernorError::NoRungs)?;
        }
        if list.is_empty() { Err(GovernorError::NoRungs) } else { Ok(Self { rungs: list, limits }) }
    }

    /// The state before the first step.
    #[must_use]
    pub fn start(&self) -> State {
        State { rung: 0 }
    }

    /// What the caller allows.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes in what is new at `now`, the time since any fixed moment on a monotonic clock, and decides.
    pub fn step(&self, state: &mut State, reading: &Reading, now: TimeSpan) -> Decision {
        let _ = (reading, now);
        if let Some(deadline) = self.limits.deadline {
            let fitting = self.rungs.iter().position(|rung| rung.latency <= deadline.latency);
            state.rung = fitting.unwrap_or(self.rungs.len() - 1) as u8;
        }
        Decision {
            rung: state.rung,
            pace: TimeSpan::from_nanoseconds(0),
            binding: if state.rung == 0 { Binding::Nothing } else { Binding::Deadline },
            mode: Mode::Normal,
            slowdown: Slowdown { mean: 1.0, standard_deviation: 0.0 },
            power_budget: None,
        }
    }
}
