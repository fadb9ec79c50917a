//! The temperatures to stay below: the profile's, or else what the kernel acts on.

use headroom_shared::Temperature;

use super::{Sensors, Trip, TripEffect};
use crate::governor::TemperatureLimits;

/// Where nothing tells when clocks are cut, it is taken to be so far below the
/// shutdown. On the boards that do tell (Orin) it is 5.5 degrees.
const PASSIVE_BELOW_CRITICAL: i32 = 6_000;

/// The governor's target below the point where clocks are cut, as in the profiles of `boards/`.
const TARGET_BELOW_PASSIVE: i32 = 14_000;

impl Sensors {
    /// The limits of the profile; without one those of the zones and chips that
    /// count: clocks are cut at the lowest trip that cuts them (or may), the
    /// system shuts down at the lowest critical trip, and the target is 14
    /// degrees below the cut. `None` where nothing tells a critical temperature.
    #[must_use]
    pub fn temperature_limits(&self) -> Option<TemperatureLimits> {
        if let Some(profile) = self.profile() {
            let limits = &profile.thermal;
            let (target, passive) = (limits.target.value, limits.passive.value);
            return Some(TemperatureLimits { target, passive, critical: limits.critical.value });
        }
        let trips = || self.zones().iter().filter(|zone| zone.counts).flat_map(|zone| &zone.trips);
        let chips = || self.chip_temperatures().iter().filter(|chip| chip.counts);
        let lowest_trip = |effect: TripEffect| trips().filter(|trip| trip.effect == effect).map(at).min();
        let shutdown = lowest_trip(TripEffect::ShutsDown);
        let critical = shutdown.into_iter().chain(chips().filter_map(|chip| chip.critical)).min()?;
        let below = |limit: Temperature, by: i32| limit.checked_sub(Temperature::from_millidegrees(by));
        // Limits that are not below the critical one are set by nobody.
        let cut = [TripEffect::CutsClocks, TripEffect::Unknown]
            .into_iter()
            .find_map(|effect| lowest_trip(effect).filter(|trip| *trip < critical))
            .or_else(|| chips().filter_map(|chip| chip.maximum).min().filter(|maximum| *maximum < critical));
        let passive = cut.or_else(|| below(critical, PASSIVE_BELOW_CRITICAL))?;
        Some(TemperatureLimits { target: below(passive, TARGET_BELOW_PASSIVE)?, passive, critical })
    }
}

fn at(trip: &Trip) -> Temperature {
    trip.temperature
}
