//! What the caller allows.

use headroom_shared::{Energy, Power, Temperature, TimeSpan};

/// What inference may cost. `None` is no limit; any subset may be set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// How long an inference may take.
    pub deadline: Option<Deadline>,
    /// The most that the whole board may draw on average.
    pub power: Option<Power>,
    /// Temperatures to stay below.
    pub temperature: Option<TemperatureLimits>,
    /// The most that one inference may take.
    pub energy: Option<Energy>,
    /// The least fidelity that is of use, -1 to 1. Heat and power below
    /// emergency level go before it; it goes before deadline and energy.
    pub minimum_fidelity: Option<f32>,
}

/// A latency that few inferences may exceed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deadline {
    pub latency: TimeSpan,
    /// The share of inferences that may take longer: above 0, below 1.
    pub miss_rate: f32,
}

/// Temperatures in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemperatureLimits {
    /// Where the governor holds the board.
    pub target: Temperature,
    /// Where the kernel starts to cut clocks.
    pub passive: Temperature,
    /// Where the kernel, or the hardware, shuts down.
    pub critical: Temperature,
}
