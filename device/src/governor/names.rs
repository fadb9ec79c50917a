//! The words by which metrics and flight records call what the governor decides.

use super::{Binding, Decider, Mode};

impl Binding {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Nothing,
        Self::Deadline,
        Self::Power,
        Self::Temperature,
        Self::Energy,
        Self::MinimumFidelity,
        Self::Hysteresis,
        Self::LostSensor,
        Self::Emergency,
    ];

    /// In lower case, words joined by `_`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Deadline => "deadline",
            Self::Power => "power",
            Self::Temperature => "temperature",
            Self::Energy => "energy",
            Self::MinimumFidelity => "minimum_fidelity",
            Self::Hysteresis => "hysteresis",
            Self::LostSensor => "lost_sensor",
            Self::Emergency => "emergency",
        }
    }
}

impl Decider {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Own, Self::Supervisor];

    /// In lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Supervisor => "supervisor",
        }
    }
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Normal, Self::Safe, Self::Emergency];

    /// In lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Safe => "safe",
            Self::Emergency => "emergency",
        }
    }
}
