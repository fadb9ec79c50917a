//! The file in which a device's owner sets the governor's [`Limits`].
//!
//! TOML, every key optional, the unit in the key's name; `device/systemd/limits.toml`
//! shows all of them with their defaults. What a file leaves open about
//! temperatures is filled in by [`LimitsFile::limits`] from what the board says.

use std::io::Read;
use std::path::{Path, PathBuf};

use headroom_shared::{Energy, Power, Temperature, TimeSpan};
use serde::Deserialize;

use crate::governor::{Deadline, Limits, TemperatureLimits};

/// The share of inferences that may miss a deadline where the file does not say.
pub const DEFAULT_MISS_RATE: f32 = 0.01;

/// A limits file is a page of text; more than this is another file.
const MAX_BYTES: u64 = 64 << 10;

/// Why a limits file is refused. Nothing of a refused file is used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitsFileError {
    /// It cannot be read, or is no text.
    #[error("cannot read the limits file `{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    /// It is far too large to be one.
    #[error("the limits file `{path}` has more than {MAX_BYTES} bytes")]
    TooLarge { path: PathBuf },
    /// Not TOML, or a key is unknown or of another type. The message quotes the
    /// line and names what was expected and found.
    #[error("limits: {message}")]
    Form { message: String },
    /// A value that its quantity cannot have.
    #[error("limits: `{key}` is {found}, expected {expected}")]
    Value { key: &'static str, expected: &'static str, found: f64 },
    /// A key that says something only together with another.
    #[error("limits: `{key}` needs `{needs}`")]
    Alone { key: &'static str, needs: &'static str },
}

/// The keys of a limits file, as they are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsFile {
    deadline_milliseconds: Option<f64>,
    miss_rate: Option<f64>,
    power_watts: Option<f64>,
    energy_millijoules: Option<f64>,
    minimum_fidelity: Option<f64>,
    temperature_target_celsius: Option<f64>,
    temperature_passive_celsius: Option<f64>,
    temperature_critical_celsius: Option<f64>,
    supervisor_temperature_target_celsius: Option<f64>,
    supervisor_temperature_passive_celsius: Option<f64>,
    supervisor_temperature_critical_celsius: Option<f64>,
}

impl LimitsFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read or is not one.
    pub fn read(path: &Path) -> Result<Self, LimitsFileError> {
        let unreadable = |source| LimitsFileError::Read { path: path.to_path_buf(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(LimitsFileError::TooLarge { path: path.to_path_buf() });
        }
        Self::parse(&text)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// If a key is unknown or a value is out of its range.
    pub fn parse(text: &str) -> Result<Self, LimitsFileError> {
        let file: Self = toml::from_str(text).map_err(|error| LimitsFileError::Form { message: error.to_string() })?;
        // With any board: whether the values are values does not depend on it.
        file.limits(None).or_else(|error| match error {
            LimitsFileError::Alone { needs: TRIPS, .. } => Ok(Limits::default()),
            other => Err(other),
        })?;
        file.supervisor_temperature()?;
        Ok(file)
    }

    /// The limits, with what the file leaves open about temperatures taken from
    /// `board`: the trip points of the sensors or the board's profile. Without
    /// either, and without temperatures in the file, heat is no limit.
    ///
    /// Whether the temperatures rise is for the governor to say.
    ///
    /// # Errors
    /// If the file sets some temperatures and the others are not known.
    pub fn limits(&self, board: Option<TemperatureLimits>) -> Result<Limits, LimitsFileError> {
        Ok(Limits {
            deadline: self.deadline()?,
            power: self.power_watts.map(|watts| power(watts, "power_watts")).transpose()?,
            temperature: self.temperature(board)?,
            energy: self.energy_millijoules.map(energy).transpose()?,
            minimum_fidelity: self.minimum_fidelity.map(fidelity).transpose()?,
        })
    }

    /// The temperatures at the sensor of a supervisor (`--supervisor`); without them it keeps those of the device.
    ///
    /// # Errors
    /// If the file sets some of them and not all.
    pub fn supervisor_temperature(&self) -> Result<Option<TemperatureLimits>, LimitsFileError> {
        let places = [
            ("supervisor_temperature_target_celsius", self.supervisor_temperature_target_celsius),
            ("supervisor_temperature_passive_celsius", self.supervisor_temperature_passive_celsius),
            ("supervisor_temperature_critical_celsius", self.supervisor_temperature_critical_celsius),
        ];
        rising(places.map(|(key, celsius)| (key, celsius, None)), "all three temperatures of the supervisor")
    }

    fn deadline(&self) -> Result<Option<Deadline>, LimitsFileError> {
        let (key, expected) = ("miss_rate", "a share above 0 and below 1");
        let miss_rate = match self.miss_rate {
            None => DEFAULT_MISS_RATE,
            Some(_) if self.deadline_milliseconds.is_none() => {
                return Err(LimitsFileError::Alone { key, needs: "deadline_milliseconds" });
            }
            // Checked as the f32 that is kept: a rate just below 1 must not become 1.
            Some(rate) if rate as f32 > 0.0 && (rate as f32) < 1.0 => rate as f32,
            Some(found) => return Err(LimitsFileError::Value { key, expected, found }),
        };
        let Some(milliseconds) = self.deadline_milliseconds else { return Ok(None) };
        let (key, expected) = ("deadline_milliseconds", "a time above 0 and at most an hour");
        let latency = TimeSpan::from_seconds(milliseconds / 1e3)
            .filter(|_| milliseconds > 0.0 && milliseconds <= 3_600_000.0)
            .ok_or(LimitsFileError::Value { key, expected, found: milliseconds })?;
        Ok(Some(Deadline { latency, miss_rate }))
    }

    fn temperature(&self, board: Option<TemperatureLimits>) -> Result<Option<TemperatureLimits>, LimitsFileError> {
        let places = [
            ("temperature_target_celsius", self.temperature_target_celsius, board.map(|board| board.target)),
            ("temperature_passive_celsius", self.temperature_passive_celsius, board.map(|board| board.passive)),
            ("temperature_critical_celsius", self.temperature_critical_celsius, board.map(|board| board.critical)),
        ];
        rising(places, TRIPS)
    }
}

/// Target, passive and critical: the key of each, what the file says and what holds otherwise.
fn rising(
    places: [(&'static str, Option<f64>, Option<Temperature>); 3],
    needs: &'static str,
) -> Result<Option<TemperatureLimits>, LimitsFileError> {
    let mut found = [None; 3];
    for (place, (key, celsius, otherwise)) in found.iter_mut().zip(places) {
        *place = celsius.map(|celsius| temperature(celsius, key)).transpose()?.or(otherwise);
    }
    match found {
        [Some(target), Some(passive), Some(critical)] => Ok(Some(TemperatureLimits { target, passive, critical })),
        _ => match places.iter().find(|(_, celsius, _)| celsius.is_some()) {
            Some((key, ..)) => Err(LimitsFileError::Alone { key, needs }),
            None => Ok(None),
        },
    }
}

/// What a temperature needs: all three of them.
const TRIPS: &str = "all three temperatures, because neither sensors nor profile of this board tell the others";

fn power(watts: f64, key: &'static str) -> Result<Power, LimitsFileError> {
    // Up to a megawatt fits the milliwatts of `Power`; the comparison is false for NaN.
    if (0.001..=1e6).contains(&watts) {
        Ok(Power::from_milliwatts((watts * 1e3).round() as u32))
    } else {
        Err(LimitsFileError::Value { key, expected: "a power from 0.001 to 1000000", found: watts })
    }
}

fn energy(millijoules: f64) -> Result<Energy, LimitsFileError> {
    if (0.001..=1e9).contains(&millijoules) {
        Ok(Energy::from_microjoules((millijoules * 1e3).round() as u64))
    } else {
        let key = "energy_millijoules";
        Err(LimitsFileError::Value { key, expected: "an energy from 0.001 to 1000000000", found: millijoules })
    }
}

fn fidelity(cosine: f64) -> Result<f32, LimitsFileError> {
    if (-1.0..=1.0).contains(&cosine) {
        Ok(cosine as f32)
    } else {
        Err(LimitsFileError::Value { key: "minimum_fidelity", expected: "a cosine from -1 to 1", found: cosine })
    }
}

fn temperature(celsius: f64, key: &'static str) -> Result<Temperature, LimitsFileError> {
    if (-50.0..=200.0).contains(&celsius) {
        Ok(Temperature::from_millidegrees((celsius * 1e3).round() as i32))
    } else {
        Err(LimitsFileError::Value { key, expected: "a temperature from -50 to 200", found: celsius })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = include_str!("../systemd/limits.toml");

    const BOARD: TemperatureLimits = TemperatureLimits {
        target: Temperature::from_millidegrees(85_000),
        passive: Temperature::from_millidegrees(99_000),
        critical: Temperature::from_millidegrees(104_500),
    };

    fn limits(text: &str) -> Result<Limits, LimitsFileError> {
        LimitsFile::parse(text)?.limits(Some(BOARD))
    }

    fn refusal(text: &str) -> String {
        limits(text).expect_err(text).to_string()
    }

    #[test]
    fn without_keys_only_the_board_limits() {
        let board = Limits { temperature: Some(BOARD), ..Limits::default() };
        assert_eq!(limits("").unwrap(), board);
        assert_eq!(limits(EXAMPLE).unwrap(), board);
        assert_eq!(LimitsFile::default().limits(None).unwrap(), Limits::default());
    }

    /// The file names every key, and where it shows a default that is the default.
    #[test]
    fn the_example_shows_every_key_and_its_default() {
        let all: String = EXAMPLE
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(key) if key.contains(" = ") && !key.starts_with(' ') => format!("{key}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let LimitsFile {
            deadline_milliseconds: Some(_),
            miss_rate: Some(miss_rate),
            power_watts: Some(_),
            energy_millijoules: Some(_),
            minimum_fidelity: Some(_),
            temperature_target_celsius: Some(_),
            temperature_passive_celsius: Some(_),
            temperature_critical_celsius: Some(_),
            supervisor_temperature_target_celsius: Some(_),
            supervisor_temperature_passive_celsius: Some(_),
            supervisor_temperature_critical_celsius: Some(_),
        } = LimitsFile::parse(&all).unwrap()
        else {
            panic!("a key is missing in the example");
        };
        assert_eq!(miss_rate as f32, DEFAULT_MISS_RATE);
        assert_eq!(limits(&all).unwrap().temperature, Some(BOARD));
    }

    #[test]
    fn units_are_those_of_the_names() {
        let all = "deadline_milliseconds = 33.4\nmiss_rate = 0.05\npower_watts = 15\nenergy_millijoules = 2.5\n\
                   minimum_fidelity = 0.9\ntemperature_target_celsius = 70.25";
        let expected = Limits {
            deadline: Some(Deadline { latency: TimeSpan::from_nanoseconds(33_400_000), miss_rate: 0.05 }),
            power: Some(Power::from_milliwatts(15_000)),
            temperature: Some(TemperatureLimits { target: Temperature::from_millidegrees(70_250), ..BOARD }),
            energy: Some(Energy::from_microjoules(2_500)),
            minimum_fidelity: Some(0.9),
        };
        assert_eq!(limits(all).unwrap(), expected);
    }

    #[test]
    fn what_is_no_limit_is_named_with_its_key() {
        for (text, words) in [
            ("power_wats = 15", ["power_wats", "power_watts"]),
            ("power_watts = \"15 W\"", ["power_watts", "string"]),
            ("power_watts = nan", ["power_watts", "NaN"]),
            ("power_watts = -1", ["power_watts", "-1"]),
            ("deadline_milliseconds = 0", ["deadline_milliseconds", "above 0"]),
            ("deadline_milliseconds = inf", ["deadline_milliseconds", "inf"]),
            ("miss_rate = 0.1", ["miss_rate", "deadline_milliseconds"]),
            ("deadline_milliseconds = 9\nmiss_rate = 1", ["miss_rate", "below 1"]),
            ("deadline_milliseconds = 9\nmiss_rate = 0.9999999999", ["miss_rate", "below 1"]),
            ("energy_millijoules = 0", ["energy_millijoules", "0.001"]),
            ("minimum_fidelity = 1.5", ["minimum_fidelity", "-1 to 1"]),
            ("temperature_target_celsius = 85000", ["temperature_target_celsius", "200"]),
            ("[", ["limits", "line 1"]),
        ] {
            let message = refusal(text);
            assert!(words.iter().all(|word| message.contains(word)), "{text}: {message}");
        }
    }

    #[test]
    fn a_target_needs_the_trips_of_the_board() {
        let file = LimitsFile::parse("temperature_target_celsius = 70").unwrap();
        assert!(file.limits(Some(BOARD)).is_ok());
        assert!(matches!(file.limits(None), Err(LimitsFileError::Alone { key: "temperature_target_celsius", .. })));
    }

    #[test]
    fn files_that_are_not_there_or_no_text_or_endless_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none.toml");
        assert!(matches!(LimitsFile::read(&missing), Err(LimitsFileError::Read { .. })));
        let binary = folder.path().join("binary.toml");
        std::fs::write(&binary, [0xff; 9]).unwrap();
        assert!(matches!(LimitsFile::read(&binary), Err(LimitsFileError::Read { .. })));
        assert!(matches!(LimitsFile::read(Path::new("/dev/zero")), Err(LimitsFileError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(deadline_milliseconds|miss_rate|power_watts|[a-z_]{1,9}) ?= ?[-0-9.einfa]{0,6}\n?[^\0]{0,9}") {
            let _ = limits(&text);
        }

        #[test]
        fn any_number_is_a_limit_or_refused(value: f64) {
            for key in ["deadline_milliseconds", "power_watts", "energy_millijoules", "minimum_fidelity"] {
                if let Ok(found) = limits(&format!("{key} = {value:?}")) {
                    prop_assert!(value.is_finite());
                    prop_assert_ne!(found, Limits { temperature: Some(BOARD), ..Limits::default() });
                }
            }
        }
    }
}
