//! The command line of `host-check`.

use std::path::PathBuf;

use clap::Parser;
use headroom_device::run::DeviceChoice;

/// Checks and times Headroom on this machine's processor or GPU.
///
/// Compares models with what PyTorch computed for them, prunes a small job, and runs every rung, switches included,
/// against the CPU engine on one thread. Prints a table; the JSON is for reports. Exit code 1 where a check fails.
#[derive(Clone, Debug, Parser)]
#[command(name = "host-check", version)]
pub struct Options {
    /// What to check: `cpu`, `cuda` or `cuda:N`; `auto` takes a GPU where this build and this machine have one.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,

    /// Prune and time this checkpoint [default: the built-in demo model].
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,

    /// Models with what PyTorch computed for them (`io.safetensors`), a folder each; left out, with a word, where the
    /// folder is absent.
    #[arg(long, value_name = "DIR", env = "HEADROOM_FIXTURES", default_value = "../shared/fixtures")]
    pub fixtures: PathBuf,

    /// A smaller job and fewer repetitions: shows that all of it works, not how fast it is.
    #[arg(long)]
    pub quick: bool,

    /// The seed of the job, of the image and of the order of switches.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Write the whole result to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Say nothing on stderr but errors.
    #[arg(long)]
    pub quiet: bool,
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
