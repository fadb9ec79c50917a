//! The command line of `device-replay`.

use std::path::PathBuf;

use clap::Parser;

/// Runs the governor against a simulated board in virtual time.
///
/// A scenario (TOML) names a board, a ladder, limits and what happens to them; hours pass in seconds. The governor is
/// compared with an oracle that knows the board, and with every rung held fixed. Scenarios ship in tests/scenarios.
///
/// The report goes to stdout, everything else to stderr.
#[derive(Clone, Debug, Parser)]
#[command(name = "device-replay", version, args_override_self = true)]
pub struct Arguments {
    /// The scenario file.
    #[arg(long, value_name = "FILE.toml")]
    pub scenario: PathBuf,

    /// Feed the governor what a board recorded, with ladder and limits of the scenario. Columns: seconds, and any of
    /// rung, latency_ms, temperature_c, power_w, throttled; an empty cell was not measured.
    #[arg(long, value_name = "FILE.csv", conflicts_with_all = ["record", "seed"])]
    pub trace: Option<PathBuf>,

    /// Draw temperature, power, latency and rung over time.
    #[arg(long, value_name = "FILE.svg")]
    pub svg: Option<PathBuf>,

    /// Write the governor's run as a CSV that --trace reads, a line a second.
    #[arg(long, value_name = "FILE.csv")]
    pub record: Option<PathBuf>,

    /// Seed of all noise, instead of the scenario's.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
