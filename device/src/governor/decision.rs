//! What the governor decided, and why.

use headroom_shared::{Power, TimeSpan};

/// The outcome of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// The rung for the inferences that start from now on.
    pub rung: u8,
    /// The least time between the starts of two inferences; zero where they may follow at once. Even the smallest
    /// rung heats the board when it runs without a pause.
    pub pace: TimeSpan,
    /// The limit that kept the governor from a rung of higher fidelity.
    pub binding: Binding,
    pub mode: Mode,
    /// How much slower than its profile the board is: mean and standard deviation.
    pub slowdown: Slowdown,
    /// What the board may draw, where heat or a cap limits it.
    pub power_budget: Option<Power>,
    /// Whose rung and pause these are.
    pub decider: Decider,
}

/// Who decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Decider {
    /// The device's own governor.
    #[default]
    Own,
    /// A supervisor beside the device, which was more careful.
    Supervisor,
}

/// Which limit bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binding {
    /// None: the rung of the highest fidelity runs.
    Nothing,
    Deadline,
    Power,
    Temperature,
    Energy,
    /// A smaller rung would fit better, but is of no use to the caller.
    MinimumFidelity,
    /// A larger rung fits, but has not for long enough.
    Hysteresis,
    /// A sensor that a limit needs is lost.
    LostSensor,
    /// A part is too hot to wait for anything.
    Emergency,
}

/// The state of the governor, as its module draws it; from the freest to the most careful.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    #[default]
    Normal,
    /// A sensor is lost: the safe rung runs.
    Safe,
    /// Too hot: the smallest rung runs, paced, until every part is back at its target.
    Emergency,
}

/// How much slower than its profile the board is; 1 is as fast.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowdown {
    pub mean: f32,
    pub standard_deviation: f32,
}
