//! What each rung costs on one machine in one state, as it was measured there.
//!
//! A ladder's predicted figures come from a board's roofline and are right to
//! tens of percent at best. `device-run --calibrate` measures, and keeps the
//! result in a file beside the bundle, which is itself hashed and never
//! changed. A file holds one profile for each [`Key`]: the same bundle takes
//! other times in another power mode, with more threads, in int8 or on another
//! board. A profile is used under its own key only; anything else would be a
//! guess that claims to be a measurement.
//!
//! A file without a precision is of f32, as all were before there was int8. A
//! program from that time still reads a file of f32 alone, and refuses one in
//! which int8 was measured too.
//!
//! Between the rungs, at any step of the ranking, costs are interpolated over
//! MACs ([`MeasuredProfile::at`]), and [`InterpolationError`] says how far off
//! that was where it can be checked: at the rungs themselves.

mod file;
mod interpolation;
mod key;
mod this_machine;

pub use file::{MEASURED_PROFILE_VERSION, MeasuredProfileError, MeasuredProfiles, default_path};
pub use interpolation::{Interpolated, InterpolationError};
pub use key::{Execution, Key, machine_name};
pub use this_machine::Found;

use headroom_shared::{Energy, Origin, Rung, TimeSpan};
use serde::{Deserialize, Serialize};

use crate::governor::RungProfile;

/// What was measured of one rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredRung {
    /// Of the sub-network, so that a file of another ladder is noticed.
    pub macs: u64,
    /// Median of one inference of one image.
    #[serde(rename = "latency_nanoseconds")]
    pub latency: TimeSpan,
    /// Of one inference, the board's idle power during it included; where power can be measured.
    #[serde(rename = "energy_microjoules")]
    pub energy: Option<Energy>,
}

/// The rungs of one bundle as they were measured under one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasuredProfile {
    #[serde(rename = "origin")]
    marked: Marked,
    /// Timed inferences of each rung.
    pub repetitions: u32,
    /// When it holds.
    pub key: Key,
    /// How far off interpolation is; absent where there are not three rungs.
    #[serde(default)]
    pub interpolation: Errors,
    /// Dense first, as the ladder's.
    #[serde(rename = "rung")]
    rungs: Vec<MeasuredRung>,
}

/// What a file says of its numbers; never anything but measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Marked {
    Measured,
}

/// The error of interpolating each cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    pub latency: Option<InterpolationError>,
    pub energy: Option<InterpolationError>,
}

impl MeasuredProfile {
    /// A profile of these rungs, dense first.
    #[must_use]
    pub fn new(key: Key, repetitions: u32, rungs: Vec<MeasuredRung>) -> Self {
        let interpolation = Errors {
            latency: interpolation::leave_one_out(&latencies(&rungs)),
            energy: energies(&rungs).as_deref().and_then(interpolation::leave_one_out),
        };
        Self { marked: Marked::Measured, repetitions, key, interpolation, rungs }
    }

    /// What was measured, dense first.
    #[must_use]
    pub fn rungs(&self) -> &[MeasuredRung] {
        &self.rungs
    }

    /// How far the numbers can be trusted.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match self.marked {
            Marked::Measured => Origin::Measured,
        }
    }

    /// The rungs of a ladder with what was measured of them.
    ///
    /// # Errors
    /// If the profile is of another ladder, which one of the same bundle never is.
    pub fn overlay<'a>(&self, ladder: &[Rung<'a>]) -> Result<Vec<Rung<'a>>, OtherLadder> {
        if self.rungs.len() != ladder.len() {
            return Err(OtherLadder::Rungs { expected: ladder.len(), found: self.rungs.len() });
        }
        let overlaid = ladder.iter().zip(&self.rungs).enumerate().map(|(index, (rung, measured))| {
            if rung.macs != measured.macs {
                return Err(OtherLadder::Macs { rung: index, expected: rung.macs, found: measured.macs });
            }
            Ok(Rung { measured_latency: Some(measured.latency), measured_energy: measured.energy, ..*rung })
        });
        overlaid.collect()
    }

    /// Latency and energy of a sub-network of so many MACs, interpolated between the rungs around it; `None` outside
    /// of the ladder, where nothing was measured.
    #[must_use]
    pub fn at(&self, macs: u64) -> Option<Interpolated> {
        let nanoseconds = interpolation::at(&latencies(&self.rungs), macs)?;
        let microjoules = energies(&self.rungs).and_then(|energies| interpolation::at(&energies, macs));
        Some(Interpolated {
            latency: TimeSpan::from_nanoseconds(nanoseconds.round() as u64),
            latency_error: self.interpolation.latency,
            energy: microjoules.map(|microjoules| Energy::from_microjoules(microjoules.round() as u64)),
            energy_error: self.interpolation.energy,
        })
    }
}

/// A profile does not fit a ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OtherLadder {
    #[error("the measured profile has {found} rungs, the ladder {expected}")]
    Rungs { expected: usize, found: usize },
    #[error("rung {rung} of the measured profile has {found} MACs, that of the ladder {expected}")]
    Macs { rung: usize, expected: u64, found: u64 },
}

/// What the governor is told of the rungs of a ladder: measured figures where there are any, or else predicted ones.
/// Where only the latency was measured, energy follows from it at the predicted mean power.
#[must_use]
pub fn rung_profiles(ladder: &[Rung<'_>]) -> Vec<RungProfile> {
    let profile = |rung: &Rung<'_>| {
        let latency = rung.latency().value;
        let at_predicted_power = || Some(rung.predicted_energy.over(rung.predicted_latency)?.during(latency));
        let energy = rung.measured_energy.or_else(at_predicted_power).unwrap_or(rung.predicted_energy);
        RungProfile { latency, energy, fidelity: rung.fidelity }
    };
    ladder.iter().map(profile).collect()
}

/// `(MACs, nanoseconds)`.
fn latencies(rungs: &[MeasuredRung]) -> Vec<(u64, f64)> {
    rungs.iter().map(|rung| (rung.macs, rung.latency.as_nanoseconds() as f64)).collect()
}

/// `(MACs, microjoules)`, if all rungs have them.
fn energies(rungs: &[MeasuredRung]) -> Option<Vec<(u64, f64)>> {
    rungs.iter().map(|rung| Some((rung.macs, rung.energy?.as_microjoules() as f64))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::precision::Precision;

    pub(super) fn key() -> Key {
        Key {
            board: "a test bench".into(),
            power_mode: Some("MODE_30W".into()),
            gpu_tpcs: Some(4),
            precision: Precision::F32,
            accelerator: None,
            threads: 1,
            bundle_sha256: "ab".repeat(32),
        }
    }

    pub(super) fn profile(milliseconds: &[u64], energy: bool) -> MeasuredProfile {
        let rungs = milliseconds.iter().zip(0u64..).map(|(milliseconds, index)| MeasuredRung {
            macs: 1_000 - 100 * index,
            latency: TimeSpan::from_nanoseconds(milliseconds * 1_000_000),
            energy: energy.then(|| Energy::from_microjoules(milliseconds * 10)),
        });
        MeasuredProfile::new(key(), 30, rungs.collect())
    }

    fn ladder(rungs: u64) -> Vec<Rung<'static>> {
        (0..rungs)
            .map(|index| Rung {
                steps: index as u32,
                macs: 1_000 - 100 * index,
                weight_bytes: 1,
                fidelity: 1.0,
                predicted_latency: TimeSpan::from_nanoseconds(1_000_000),
                predicted_energy: Energy::from_microjoules(5_000),
                measured_latency: None,
                measured_energy: None,
                token_schedule: &[],
            })
            .collect()
    }

    #[test]
    fn an_overlaid_ladder_is_a_measured_one() {
        let overlaid = profile(&[9, 5, 2], true).overlay(&ladder(3)).unwrap();
        assert_eq!(overlaid[1].latency().origin, Origin::Measured);
        assert_eq!(overlaid[1].latency().value, TimeSpan::from_nanoseconds(5_000_000));
        assert_eq!(overlaid[2].energy().value, Energy::from_microjoules(20));
    }

    #[test]
    fn energy_follows_measured_latency_at_the_predicted_power() {
        let overlaid = profile(&[9, 5, 2], false).overlay(&ladder(3)).unwrap();
        let told = rung_profiles(&overlaid);
        assert_eq!(told[1].latency, TimeSpan::from_nanoseconds(5_000_000));
        assert_eq!(told[1].energy, Energy::from_microjoules(25_000));
        assert_eq!(rung_profiles(&ladder(1))[0].energy, Energy::from_microjoules(5_000));
    }

    #[test]
    fn another_ladder_is_told_apart() {
        let expected = OtherLadder::Rungs { expected: 2, found: 3 };
        assert_eq!(profile(&[9, 5, 2], false).overlay(&ladder(2)), Err(expected));
        let mut other = ladder(3);
        other[2].macs = 7;
        let expected = OtherLadder::Macs { rung: 2, expected: 7, found: 800 };
        assert_eq!(profile(&[9, 5, 2], false).overlay(&other), Err(expected));
    }

    #[test]
    fn between_rungs_costs_are_interpolated_with_the_error_said() {
        let profile = profile(&[8, 6, 5], true);
        let between = profile.at(950).unwrap();
        assert_eq!(between.latency, TimeSpan::from_nanoseconds(7_000_000));
        assert_eq!(between.energy, Some(Energy::from_microjoules(70)));
        // The middle rung from its neighbours would be 6.5 instead of 6.
        let error = between.latency_error.unwrap();
        assert!((error.worst - 0.5 / 6.0).abs() < 1e-6, "{error:?}");
        assert_eq!(profile.at(1_001), None);
        assert_eq!(profile.at(799), None);
    }
}
