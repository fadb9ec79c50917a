//! Recorded traces: CSV, one line for each moment.
//!
//! | column | meaning |
//! |---|---|
//! | `seconds` | monotonic time; required, never falling |
//! | `rung`, `latency_ms` | the inference that ended then; both or neither |
//! | `temperature_c`, `power_w`, `throttled` (0 or 1) | a pass over the sensors |
//!
//! Columns come in any order, others are ignored, and an empty cell was not
//! measured. Replaying is open loop: temperature and power are as recorded,
//! whatever the governor chooses, and the latency of its choice is estimated as
//! the profile's times the slowdown that was recorded.

use std::path::{Path, PathBuf};

use headroom_shared::{Power, Temperature, TimeSpan};
use serde::{Deserialize, Serialize};

use super::report::REPORT_VERSION;
use super::{Moment, Scenario};
use crate::governor::{Governor, GovernorError};
use crate::reading::{InferenceSample, Measurement, Missing, Reading, SensorReading};

/// Why a trace is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    #[error("cannot read the trace `{path}`")]
    Read { path: PathBuf, source: csv::Error },
    #[error("the trace `{path}` has no column `seconds`")]
    Header { path: PathBuf },
    #[error("the trace `{path}`, line {line}: {what}")]
    Line { path: PathBuf, line: u64, what: String },
    #[error("the trace `{path}` has no lines")]
    Empty { path: PathBuf },
    #[error("the governor refuses the scenario")]
    Governor(#[from] GovernorError),
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Line {
    seconds: f64,
    rung: Option<u8>,
    latency_ms: Option<f64>,
    temperature_c: Option<f64>,
    power_w: Option<f64>,
    throttled: Option<u8>,
}

/// What the governor would have chosen.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ReplayedTrace {
    pub version: u32,
    pub trace: PathBuf,
    pub inferences: u64,
    /// Recorded inferences that missed the deadline, in percent; absent without a deadline.
    pub recorded_misses_percent: Option<f64>,
    /// The same for what the governor would have run, estimated.
    pub estimated_misses_percent: Option<f64>,
    /// Mean fidelity of what the governor would have run.
    pub mean_fidelity: f64,
    pub switches: u64,
    /// What it would have chosen, a line a recorded moment.
    #[serde(skip)]
    pub history: Vec<Moment>,
}

impl ReplayedTrace {
    pub fn text(&self, scenario: &Scenario) -> String {
        let percent = |misses: Option<f64>| misses.map_or("no deadline".into(), |misses| format!("{misses:.2} %"));
        format!(
            "{}\n{} with the ladder and limits of {}: {} inferences\nmean fidelity {:.4}, {} switches, misses {} recorded, {} estimated",
            super::drawing::terminal(&self.history),
            self.trace.display(),
            scenario.name,
            self.inferences,
            self.mean_fidelity,
            self.switches,
            percent(self.recorded_misses_percent),
            percent(self.estimated_misses_percent),
        )
    }
}

/// Feeds a trace to the governor.
///
/// # Errors
/// If the trace cannot be read or makes no sense.
pub(super) fn replay(path: &Path, scenario: &Scenario) -> Result<ReplayedTrace, TraceError> {
    let failed = |source| TraceError::Read { path: path.to_path_buf(), source };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).map_err(failed)?;
    if !reader.headers().map_err(failed)?.iter().any(|name| name == "seconds") {
        return Err(TraceError::Header { path: path.to_path_buf() });
    }
    let rungs = scenario.ladder.rungs(scenario.board.idle_watts);
    let profiles: Vec<_> = rungs.iter().map(|rung| rung.profile).collect();
    let idle = Power::from_milliwatts((scenario.board.idle_watts * 1e3) as u32);
    let governor = Governor::new(&profiles, scenario.limits.limits(&scenario.board))?.with_idle_power(idle);
    let deadline = governor.limits().deadline.map(|deadline| deadline.latency.as_seconds());
    let mut state = governor.start();
    let mut replayed = ReplayedTrace {
        version: REPORT_VERSION,
        trace: path.to_path_buf(),
        inferences: 0,
        recorded_misses_percent: None,
        estimated_misses_percent: None,
        mean_fidelity: 0.0,
        switches: 0,
        history: Vec::new(),
    };
    let (mut recorded_misses, mut estimated_misses, mut last) = (0u64, 0u64, 0.0);
    let mut chosen = usize::from(governor.step(&mut state, &Reading::default(), TimeSpan::default()).rung);
    for (index, line) in reader.deserialize::<Line>().enumerate() {
        let at = |what: String| TraceError::Line { path: path.to_path_buf(), line: index as u64 + 2, what };
        let line = line.map_err(|error| at(error.to_string()))?;
        let reading = line.reading(profiles.len(), last).map_err(at)?;
        last = line.seconds;
        let mut moment = Moment {
            seconds: line.seconds,
            celsius: line.temperature_c.unwrap_or(replayed.history.last().map_or(0.0, |last| last.celsius)),
            watts: line.power_w.unwrap_or(replayed.history.last().map_or(0.0, |last| last.watts)),
            milliseconds: 0.0,
            rung: chosen,
        };
        if let Some(sample) = reading.inference {
            let recorded = sample.latency.as_seconds();
            let slowdown = recorded / profiles[usize::from(sample.rung)].latency.as_seconds();
            let estimated = profiles[chosen].latency.as_seconds() * slowdown;
            replayed.inferences += 1;
            replayed.mean_fidelity += f64::from(profiles[chosen].fidelity);
            recorded_misses += u64::from(deadline.is_some_and(|deadline| recorded > deadline));
            estimated_misses += u64::from(deadline.is_some_and(|deadline| estimated > deadline));
            moment.milliseconds = estimated * 1e3;
        }
        let now = TimeSpan::from_seconds(line.seconds).unwrap_or_default();
        let next = usize::from(governor.step(&mut state, &reading, now).rung);
        replayed.switches += u64::from(next != chosen);
        chosen = next;
        replayed.history.push(moment);
    }
    if replayed.history.is_empty() {
        return Err(TraceError::Empty { path: path.to_path_buf() });
    }
    let inferences = replayed.inferences.max(1) as f64;
    replayed.mean_fidelity /= inferences;
    replayed.recorded_misses_percent = deadline.map(|_| 100.0 * recorded_misses as f64 / inferences);
    replayed.estimated_misses_percent = deadline.map(|_| 100.0 * estimated_misses as f64 / inferences);
    Ok(replayed)
}

impl Line {
    fn reading(&self, rungs: usize, last: f64) -> Result<Reading, String> {
        // False for NaN.
        if !(last..1e9).contains(&self.seconds) {
            return Err(format!("{} s after {last} s: expected a time that never falls", self.seconds));
        }
        let inference = match (self.rung, self.latency_ms) {
            (Some(rung), Some(milliseconds)) => Some(sample(rung, milliseconds, rungs)?),
            (None, None) => None,
            _ => return Err("a rung without its latency, or a latency without its rung".into()),
        };
        let known = self.temperature_c.is_some() || self.power_w.is_some() || self.throttled.is_some();
        let sensors = if known { Some(self.sensors()?) } else { None };
        Ok(Reading { inference, sensors })
    }

    fn sensors(&self) -> Result<SensorReading, String> {
        let mut sensors = SensorReading::ABSENT;
        if let Some(celsius) = self.temperature_c {
            if !(-273.15..1e6).contains(&celsius) {
                return Err(format!("a temperature of {celsius} °C"));
            }
            sensors.temperature = Measurement::Measured(Temperature::from_millidegrees((celsius * 1e3) as i32));
        } else {
            sensors.temperature = Measurement::Missing(Missing::Unavailable);
        }
        if let Some(watts) = self.power_w {
            if !(0.0..4e6).contains(&watts) {
                return Err(format!("a power of {watts} W"));
            }
            sensors.power = Measurement::Measured(Power::from_milliwatts((watts * 1e3) as u32));
        }
        if let Some(throttled) = self.throttled {
            sensors.throttled = Measurement::Measured(throttled != 0);
        }
        Ok(sensors)
    }
}

fn sample(rung: u8, milliseconds: f64, rungs: usize) -> Result<InferenceSample, String> {
    if usize::from(rung) >= rungs {
        return Err(format!("rung {rung}: the scenario's ladder has rungs 0 to {}", rungs - 1));
    }
    match TimeSpan::from_seconds(milliseconds * 1e-3).filter(|latency| latency.as_nanoseconds() > 0) {
        Some(latency) => Ok(InferenceSample { rung, latency }),
        None => Err(format!("a latency of {milliseconds} ms")),
    }
}

/// A run as a trace, a line a second.
pub(super) fn record(history: &[Moment]) -> String {
    let mut text = String::from("seconds,rung,latency_ms,temperature_c,power_w\n");
    for moment in history {
        let inference =
            if moment.milliseconds > 0.0 { format!("{},{:.3}", moment.rung, moment.milliseconds) } else { ",".into() };
        text += &format!("{},{inference},{:.3},{:.3}\n", moment.seconds + 1.0, moment.celsius, moment.watts);
    }
    text
}
