//! Why there is no governor of such a profile and such limits.

use headroom_shared::{MAX_RUNGS, Temperature, TimeSpan};

/// Why there is no governor of such a profile and such limits.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GovernorError {
    #[error("a ladder without rungs")]
    NoRungs,
    #[error("more rungs than the {MAX_RUNGS} that a ladder may have")]
    TooManyRungs,
    #[error("rung {rung} takes no time: its latency was neither measured nor predicted")]
    NoLatency { rung: u8 },
    #[error("rung {rung} takes no energy, and the {limit} limit needs to know it")]
    NoEnergy { rung: u8, limit: LimitKind },
    #[error("rung {rung} has a fidelity of {found}: expected -1 to 1")]
    Fidelity { rung: u8, found: f32 },
    #[error("a {0} limit of zero")]
    ZeroLimit(LimitKind),
    #[error("a miss rate of {found}: expected more than 0 and less than 1")]
    MissRate { found: f32 },
    #[error("temperatures out of order: target {target}, passive {passive}, critical {critical}")]
    TemperatureOrder { target: Temperature, passive: Temperature, critical: Temperature },
    #[error("a minimum fidelity of {found}: expected -1 to 1")]
    MinimumFidelity { found: f32 },
    #[error("no rung has the minimum fidelity of {minimum}: the best has {best}")]
    NothingUseful { minimum: f32, best: f32 },
    #[error("the gain `{name}` is {found}")]
    Gain { name: &'static str, found: f32 },
    #[error("a dwell of {dwell}, longer than the longest, {longest}")]
    DwellOrder { dwell: TimeSpan, longest: TimeSpan },
    #[error("the {limit} limit needs a sensor that the board does not have")]
    NoSensor { limit: LimitKind },
}

/// A limit that something is wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKind {
    Deadline,
    Power,
    Temperature,
    Energy,
}

impl core::fmt::Display for LimitKind {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(match self {
            Self::Deadline => "deadline",
            Self::Power => "power",
            Self::Temperature => "temperature",
            Self::Energy => "energy",
        })
    }
}
