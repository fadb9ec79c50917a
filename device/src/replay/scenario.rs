//! A scenario: a board, a ladder, limits, and what happens to them.

use std::path::{Path, PathBuf};

use headroom_shared::{Energy, Power, Temperature, TimeSpan};
use serde::Deserialize;

use super::LadderModel;
use crate::governor::{Deadline, Limits, TemperatureLimits};
use crate::plant::{BoardModel, Environment, Fault};

/// The longest scenario: ten days.
const LONGEST: f64 = 864_000.0;

/// Why a scenario is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    #[error("cannot read the scenario `{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the scenario `{path}` is not understood")]
    Form { path: PathBuf, source: Box<toml::de::Error> },
    #[error("the scenario `{path}` makes no sense: {what}")]
    Content { path: PathBuf, what: String },
}

/// A scenario, as its TOML file has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    /// What it shows.
    pub about: String,
    /// How long it lasts in virtual time.
    pub seconds: f64,
    #[serde(default)]
    pub seed: u64,
    /// Frames that arrive a second; without it inferences follow at once.
    pub frames_per_second: Option<f64>,
    #[serde(default)]
    pub board: BoardModel,
    pub ladder: LadderModel,
    pub limits: LimitsModel,
    /// What is so from the start.
    #[serde(default)]
    pub start: Change,
    /// What happens later, in order of time.
    #[serde(default)]
    pub event: Vec<Change>,
}

/// The limits of a scenario; what is left out is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsModel {
    pub deadline_milliseconds: Option<f64>,
    /// The share of inferences that may miss the deadline.
    #[serde(default = "one_percent")]
    pub miss_rate: f32,
    pub power_watts: Option<f64>,
    /// With the passive and critical temperatures of the board.
    pub target_celsius: Option<f64>,
    pub energy_millijoules: Option<f64>,
    pub minimum_fidelity: Option<f32>,
}

fn one_percent() -> f32 {
    0.01
}

/// What an event changes; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Change {
    /// When, after the start.
    pub at_seconds: f64,
    pub ambient_celsius: Option<f64>,
    pub fan: Option<bool>,
    pub sun_watts: Option<f64>,
    /// The clock of the power mode, as a share of the one that the ladder was profiled at.
    pub clock: Option<f64>,
    pub co_runner_slowdown: Option<f64>,
    pub co_runner_watts: Option<f64>,
    pub frames_per_second: Option<f64>,
    pub fault: Option<Fault>,
    /// The share of inferences that take five times as long, for no reason.
    pub odd_latencies: Option<f64>,
    /// The governor's clock is set by so much.
    pub clock_jump_seconds: Option<f64>,
    /// All limits from now on.
    pub limits: Option<LimitsModel>,
    /// Another bundle.
    pub ladder: Option<LadderModel>,
}

impl Scenario {
    /// Reads and checks a scenario file.
    ///
    /// # Errors
    /// If it cannot be read, is not understood or makes no sense.
    pub fn open(path: &Path) -> Result<Self, ScenarioError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ScenarioError::Read { path: path.to_path_buf(), source })?;
        Self::parse(&text, path)
    }

    /// Reads and checks the text of a scenario file; `path` is for messages.
    ///
    /// # Errors
    /// If it is not understood or makes no sense.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)
            .map_err(|source| ScenarioError::Form { path: path.to_path_buf(), source: Box::new(source) })?;
        scenario.validate().map_err(|what| ScenarioError::Content { path: path.to_path_buf(), what })?;
        Ok(scenario)
    }

    fn validate(&self) -> Result<(), String> {
        if !(1.0..=LONGEST).contains(&self.seconds) {
            return Err(format!("seconds = {}: expected 1 to {LONGEST}", self.seconds));
        }
        self.board.validate().map_err(|name| format!("the board's {name} is no number it can have"))?;
        self.ladder.validate()?;
        within("frames_per_second", self.frames_per_second, 1e-3, 1e4)?;
        self.start.validate()?;
        let mut last = 0.0;
        for event in &self.event {
            if !(last..=self.seconds).contains(&event.at_seconds) {
                return Err(format!("the event at {} s is out of order or after the end", event.at_seconds));
            }
            last = event.at_seconds;
            event.validate()?;
        }
        Ok(())
    }
}

impl Change {
    fn validate(&self) -> Result<(), String> {
        within("ambient_celsius", self.ambient_celsius, -60.0, 100.0)?;
        within("sun_watts", self.sun_watts, 0.0, 1e3)?;
        within("clock", self.clock, 0.05, 4.0)?;
        within("co_runner_slowdown", self.co_runner_slowdown, 0.1, 100.0)?;
        within("co_runner_watts", self.co_runner_watts, 0.0, 1e3)?;
        within("frames_per_second", self.frames_per_second, 1e-3, 1e4)?;
        within("odd_latencies", self.odd_latencies, 0.0, 1.0)?;
        within("clock_jump_seconds", self.clock_jump_seconds, -1e6, 1e6)?;
        self.ladder.map_or(Ok(()), |ladder| ladder.validate())
    }

    /// Changes the part of it that surrounds the board.
    pub fn apply(&self, environment: &mut Environment) {
        fn set<T: Copy>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        set(&mut environment.ambient_celsius, self.ambient_celsius);
        set(&mut environment.fan, self.fan);
        set(&mut environment.sun_watts, self.sun_watts);
        set(&mut environment.clock, self.clock);
        set(&mut environment.co_runner_slowdown, self.co_runner_slowdown);
        set(&mut environment.co_runner_watts, self.co_runner_watts);
    }
}

impl LimitsModel {
    /// As the governor takes them. What is no number becomes a limit that the governor refuses.
    #[must_use]
    pub fn limits(&self, board: &BoardModel) -> Limits {
        let celsius = |celsius: f64| Temperature::from_millidegrees((celsius * 1e3) as i32);
        Limits {
            deadline: self.deadline_milliseconds.map(|milliseconds| Deadline {
                latency: TimeSpan::from_seconds(milliseconds * 1e-3).unwrap_or_default(),
                miss_rate: self.miss_rate,
            }),
            power: self.power_watts.map(|watts| Power::from_milliwatts((watts * 1e3) as u32)),
            temperature: self.target_celsius.map(|target| TemperatureLimits {
                target: celsius(target),
                passive: celsius(board.passive_celsius),
                critical: celsius(board.critical_celsius),
            }),
            energy: self
                .energy_millijoules
                .map(|millijoules| Energy::from_joules(millijoules * 1e-3).unwrap_or_default()),
            minimum_fidelity: self.minimum_fidelity,
        }
    }
}

fn within(name: &str, value: Option<f64>, least: f64, most: f64) -> Result<(), String> {
    match value {
        Some(value) if !(least..=most).contains(&value) => Err(format!("{name} = {value}: expected {least} to {most}")),
        _ => Ok(()),
    }
}
