//! What the profile expects of a machine, and the machine does not have.

use headroom_shared::board::{Capability, SensorLocation};

use super::Sensors;

/// Something that the profile names and the machine lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// No thermal zone has this stem.
    Zone(String),
    /// No power rail has this label.
    Rail(String),
}

impl Sensors {
    /// The zones and rails that the profile names and that were not found.
    /// Where that is most of them, the profile is another board's, and sensors
    /// are better discovered without it. Its other sensors are alternatives, of
    /// which one is enough.
    #[must_use]
    pub fn unmet(&self) -> Vec<Unmet> {
        let Some(profile) = self.profile() else { return Vec::new() };
        let temperatures = profile.sensors.iter().filter(|sensor| sensor.capability == Capability::Temperature);
        let zones = temperatures.filter_map(|sensor| match &sensor.find {
            SensorLocation::ThermalZone(stem) => Some(stem),
            _ => None,
        });
        let has_zone = |stem: &str| self.zones().iter().any(|zone| zone.stem().eq_ignore_ascii_case(stem));
        let has_rail = |label: &str| self.rails().iter().any(|rail| rail.label == label);
        let zones = zones.filter(|stem| !has_zone(stem)).map(|stem| Unmet::Zone(stem.to_string()));
        let rails = profile.rails.iter().filter(|rail| !has_rail(&rail.label));
        zones.chain(rails.map(|rail| Unmet::Rail(rail.label.to_string()))).collect()
    }
}
