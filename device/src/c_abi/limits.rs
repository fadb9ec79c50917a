//! What the caller allows.

use headroom_shared::{Energy, Power, Temperature, TimeSpan};

use super::model::known_bits;
use super::status::Failure;
use crate::governor::{Deadline, Limits, TemperatureLimits};

/// `HeadroomLimits::set`: `deadline_nanoseconds` and `miss_rate` are limits.
pub const HEADROOM_LIMIT_DEADLINE: u32 = 1;
/// `HeadroomLimits::set`: `power_milliwatts` is a limit.
pub const HEADROOM_LIMIT_POWER: u32 = 2;
/// `HeadroomLimits::set`: the temperatures are limits.
pub const HEADROOM_LIMIT_TEMPERATURE: u32 = 4;
/// `HeadroomLimits::set`: `energy_microjoules` is a limit.
pub const HEADROOM_LIMIT_ENERGY: u32 = 8;
/// `HeadroomLimits::set`: `minimum_fidelity` is a limit.
pub const HEADROOM_LIMIT_FIDELITY: u32 = 16;

/// What inference may cost; any subset may be set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HeadroomLimits {
    /// Which of the other fields are limits: a sum of `HEADROOM_LIMIT_*`.
    pub set: u32,
    /// The share of inferences that may take longer than the deadline: above 0, below 1.
    pub miss_rate: f32,
    pub deadline_nanoseconds: u64,
    /// The most that the whole board may draw on average.
    pub power_milliwatts: u32,
    /// Where the governor holds the board.
    pub target_millidegrees: i32,
    /// Where the kernel starts to cut clocks.
    pub passive_millidegrees: i32,
    /// Where the kernel, or the hardware, shuts down.
    pub critical_millidegrees: i32,
    /// The most that one inference may take.
    pub energy_microjoules: u64,
    /// The least fidelity that is of use, -1 to 1.
    pub minimum_fidelity: f32,
}

impl HeadroomLimits {
    /// As the governor takes them; it is the one who checks them.
    pub(super) fn checked(&self) -> Result<Limits, Failure> {
        let known = HEADROOM_LIMIT_DEADLINE
            | HEADROOM_LIMIT_POWER
            | HEADROOM_LIMIT_TEMPERATURE
            | HEADROOM_LIMIT_ENERGY
            | HEADROOM_LIMIT_FIDELITY;
        known_bits(self.set, known, "limits.set")?;
        let is_set = |limit: u32| self.set & limit != 0;
        Ok(Limits {
            deadline: is_set(HEADROOM_LIMIT_DEADLINE).then(|| Deadline {
                latency: TimeSpan::from_nanoseconds(self.deadline_nanoseconds),
                miss_rate: self.miss_rate,
            }),
            power: is_set(HEADROOM_LIMIT_POWER).then(|| Power::from_milliwatts(self.power_milliwatts)),
            temperature: is_set(HEADROOM_LIMIT_TEMPERATURE).then(|| TemperatureLimits {
                target: Temperature::from_millidegrees(self.target_millidegrees),
                passive: Temperature::from_millidegrees(self.passive_millidegrees),
                critical: Temperature::from_millidegrees(self.critical_millidegrees),
            }),
            energy: is_set(HEADROOM_LIMIT_ENERGY).then(|| Energy::from_microjoules(self.energy_microjoules)),
            minimum_fidelity: is_set(HEADROOM_LIMIT_FIDELITY).then_some(self.minimum_fidelity),
        })
    }
}
