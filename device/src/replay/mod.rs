//! The program `device-replay`: the real governor against a simulated board, or
//! against what a real one recorded, in virtual time.
//!
//! A [`Scenario`] names a board, a ladder, limits and what happens. The
//! [`simulation`] runs it once with the governor, once with an [`oracle`] that
//! knows the plant and once with every rung held fixed; the [`report`] compares
//! them. A [`trace`] is open loop: it tells what the governor would have chosen,
//! not what its choices would have changed.

mod arguments;
mod drawing;
mod ladder;
mod metrics;
pub mod oracle;
mod report;
pub mod scenario;
mod simulation;
mod trace;

use std::path::{Path, PathBuf};

pub use arguments::Arguments;
pub use ladder::{LadderModel, SimulatedRung};
pub use metrics::{Metrics, Moment};
pub use report::{REPORT_VERSION, Report};
pub use scenario::{Scenario, ScenarioError};
pub use simulation::{Observer, Policy, Run, Simulation};
pub use trace::TraceError;

use crate::governor::GovernorError;
use crate::{program, whole_file};

/// Why `device-replay` failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error("the governor refuses the scenario")]
    Governor(#[from] GovernorError),
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error("cannot draw")]
    Draw(Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot write `{path}`")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot write the results")]
    Print(#[from] std::io::Error),
}

impl ReplayError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Scenario(ScenarioError::Read { .. }) => {
                Some("scenarios ship in tests/scenarios, for instance tests/scenarios/fan-failure.toml".into())
            }
            Self::Trace(TraceError::Header { .. }) => Some("`device-replay --record FILE` writes such a file".into()),
            _ => None,
        }
    }
}

/// Runs the program.
///
/// # Errors
/// See [`ReplayError`].
pub fn run(arguments: &Arguments) -> Result<(), ReplayError> {
    let mut scenario = Scenario::open(&arguments.scenario)?;
    scenario.seed = arguments.seed.unwrap_or(scenario.seed);
    if let Some(path) = &arguments.trace {
        let replayed = trace::replay(path, &scenario)?;
        write_drawing(arguments, &scenario, &replayed.history)?;
        return Ok(program::print(arguments.json, &replayed, || replayed.text(&scenario))?);
    }
    let (report, governed) = Report::of(&scenario)?;
    write_drawing(arguments, &scenario, &governed.history)?;
    if let Some(path) = &arguments.record {
        write(path, &trace::record(&governed.history))?;
    }
    let text = || format!("{}\n{}", drawing::terminal(&governed.history), report.text());
    Ok(program::print(arguments.json, &report, text)?)
}

fn write_drawing(arguments: &Arguments, scenario: &Scenario, history: &[Moment]) -> Result<(), ReplayError> {
    let Some(path) = &arguments.svg else { return Ok(()) };
    let svg = drawing::svg(scenario, history).map_err(ReplayError::Draw)?;
    write(path, &svg)
}

fn write(path: &Path, text: &str) -> Result<(), ReplayError> {
    whole_file::write(path, text.as_bytes()).map_err(|source| ReplayError::Write { path: path.to_path_buf(), source })
}
