//! The command line of `host-check`.

use std::path::PathBuf;

use clap::Parser;
use headroom_device::run::DeviceChoice;

/// Checks and times every rung of a bundle on this machine's processor or GPU, against the CPU engine.
///
/// Without a bundle it first prunes the demo model. Prints a table to stdout; the JSON is for reports.
#[derive(Clone, Debug, Parser)]
#[command(name = "host-check", version)]
pub struct Options {
    /// What to check: `cpu`, `cuda` or `cuda:N`; `auto` takes a GPU where one can run the model, and says why not.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,

    /// Check this bundle instead of pruning the demo model.
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,

    /// A smaller job and fewer repetitions: shows that all of it works, not how fast it is.
    #[arg(long)]
    pub quick: bool,

    /// Write the JSON to this file as well.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Print the JSON instead of the table.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
