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

use std::io::Write;
use std::path::{Path, PathBuf};

pub use arguments::Arguments;
pub use ladder::{LadderModel, SimulatedRung};
pub use metrics::{Metrics, Moment};
pub use report::{REPORT_VERSION, Report};
pub use scenario::{Scenario, ScenarioError};
pub use simulation::{BINDINGS, Observer, Policy, Run, Simulation};
pub use trace::TraceError;

use crate::governor::GovernorError;
use crate::program;

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
        program::print(arguments.json, &replayed, || replayed.text(&scenario));
        return Ok(());
    }
    let (report, governed) = Report::of(&scenario)?;
    write_drawing(arguments, &scenario, &governed.history)?;
    if let Some(path) = &arguments.record {
        whole_file(path, trace::record(&governed.history).as_bytes())?;
    }
    program::print(arguments.json, &report, || format!("{}\n{}", drawing::terminal(&governed.history), report.text()));
    Ok(())
}

fn write_drawing(arguments: &Arguments, scenario: &Scenario, history: &[Moment]) -> Result<(), ReplayError> {
    let Some(path) = &arguments.svg else { return Ok(()) };
    let svg = drawing::svg(scenario, history).map_err(ReplayError::Draw)?;
    whole_file(path, svg.as_bytes())
}

/// Writes a file whole or not at all.
fn whole_file(path: &Path, content: &[u8]) -> Result<(), ReplayError> {
    let write = || {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut beside = tempfile::NamedTempFile::new_in(folder)?;
        beside.write_all(content)?;
        beside.as_file().sync_all()?;
        beside.persist(path)?;
        Ok(())
    };
    write().map_err(|source| ReplayError::Write { path: path.to_path_buf(), source })
}
