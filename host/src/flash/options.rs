//! The command line of `host-flash`.

use std::path::PathBuf;

use clap::{Args, Parser};

use super::destination::Destination;
use super::probe::ProbeOptions;
use crate::boards;

/// Brings a runtime and a bundle to devices and makes them serve it.
///
/// Over SSH, with the system's OpenSSH and its configuration. Only what has
/// changed is sent. The new release is installed beside the old one, switched to
/// in one step, and switched back from if it is not healthy. A board without an
/// operating system is written through a debug probe instead. Results go to
/// stdout, progress to stderr. Exit codes: 0 every device did what was asked,
/// 1 one did not, 2 wrong usage, 130 interrupted.
#[derive(Clone, Debug, Parser)]
#[command(name = "host-flash", version, args_override_self = true)]
pub struct Options {
    /// The board.
    #[arg(long, value_name = "BOARD", value_parser = clap::builder::PossibleValuesParser::new(boards::names()))]
    pub target: String,

    /// A device; may be given several times, or several separated by commas.
    #[arg(long, value_name = "[USER@]HOST[:PORT]", value_delimiter = ',')]
    pub to: Vec<Destination>,

    /// The bundle that host-prune wrote.
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,

    /// The program `device-run`, built for the board.
    #[arg(long, value_name = "FILE")]
    pub runtime: Option<PathBuf>,

    #[command(flatten)]
    pub task: Task,

    #[command(flatten)]
    pub activation: Activation,

    #[command(flatten)]
    pub probe: ProbeOptions,

    /// The file of the unit, for --print-setup.
    #[arg(long, value_name = "FILE")]
    pub unit_file: Option<PathBuf>,

    /// The file of the service's limits, for --print-setup; a device that has some keeps its own.
    #[arg(long, value_name = "FILE")]
    pub limits_file: Option<PathBuf>,

    /// Folder on the device that holds the releases [default: from the board's profile].
    #[arg(long, value_name = "DIR", value_parser = absolute)]
    pub root: Option<String>,

    /// Install on another board than --target names, or a bundle made for another one.
    #[arg(long)]
    pub allow_board_mismatch: bool,

    /// Use this file instead of ~/.ssh/config.
    #[arg(long, value_name = "FILE")]
    pub ssh_config: Option<PathBuf>,

    /// Where the system's own files begin on the device: for tests and containers.
    #[arg(long, value_name = "DIR", default_value = "", hide = true)]
    pub system_root: String,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,

    /// Say nothing on stderr but errors.
    #[arg(long)]
    pub quiet: bool,
}

/// How a release is activated on the device.
#[derive(Clone, Debug, Args)]
pub struct Activation {
    /// The systemd unit that serves the bundle.
    #[arg(long, value_name = "NAME", default_value = "headroom.service", value_parser = unit_name)]
    pub unit: String,

    /// Releases to keep on the device; the active one and the one before always stay.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..))]
    pub keep: u32,

    /// Shell command on the device that judges the release in the folder `$RELEASE`: healthy if it ends with 0.
    #[arg(long, value_name = "COMMAND", default_value = HEALTH_COMMAND)]
    pub health_command: String,

    /// Seconds that the start of the unit and the health command may each take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub health_limit: u32,

    /// Seconds that the unit must keep running.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub steady: u32,
}

impl Options {
    /// Whether the board takes what a debug probe writes, rather than releases over SSH.
    #[must_use]
    pub fn needs_probe(&self) -> bool {
        boards::find(&self.target).is_ok_and(|board| board.profile.deployment.ssh().is_none())
    }

    /// What is missing or out of place for the kind of board.
    #[must_use]
    pub fn misuse(&self) -> Option<String> {
        let target = &self.target;
        if self.needs_probe() {
            let linux = [
                ("--to", !self.to.is_empty()),
                ("--runtime", self.runtime.is_some()),
                ("--rollback", self.task.rollback),
                ("--status", self.task.status),
                ("--list", self.task.list),
                ("--print-setup", self.task.print_setup),
            ];
            if let Some((option, _)) = linux.into_iter().find(|(_, is_given)| *is_given) {
                return Some(format!(
                    "{option} is for boards that run Linux; `{target}` is written through a debug probe"
                ));
            }
            return self.bundle.is_none().then(|| format!("--bundle DIR is needed for `{target}`"));
        }
        if let Some(option) = self.probe.given() {
            return Some(format!("{option} is for boards without an operating system; `{target}` runs Linux"));
        }
        let has_device = self.task.print_setup || !self.to.is_empty();
        (!has_device).then(|| format!("--to [USER@]HOST[:PORT] is needed for `{target}`"))
    }
}

/// What to do instead of installing.
#[derive(Clone, Debug, Default, Args)]
#[group(multiple = false)]
pub struct Task {
    /// Check the devices and tell what would be sent or written; change nothing.
    #[arg(long)]
    pub dry_run: bool,

    /// Activate the release before the active one.
    #[arg(long)]
    pub rollback: bool,

    /// Tell what is active.
    #[arg(long)]
    pub status: bool,

    /// Tell which releases are on the devices.
    #[arg(long)]
    pub list: bool,

    /// Print the script that prepares a device, to be read and then run once as root on it.
    #[arg(long, requires = "unit_file")]
    pub print_setup: bool,
}

/// One synthetic frame through the engine that was just installed, and a pass over the sensors. What is not found is
/// no failure, as boards differ; a probe that crashes or hangs is.
const HEALTH_COMMAND: &str = concat!(
    r#""$RELEASE/bin/device-run" --bundle "$RELEASE/bundle" --synthetic 1"#,
    r#" && "$RELEASE/bin/device-run" --probe --bundle "$RELEASE/bundle""#,
);

fn absolute(text: &str) -> Result<String, String> {
    if text.starts_with('/') && text != "/" { Ok(text.to_owned()) } else { Err("expected an absolute path".to_owned()) }
}

/// systemd's rule for the names of units, without what a shell or an option would take for its own.
fn unit_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.@".contains(c);
    if text.ends_with(".service") && !text.starts_with('-') && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err("expected the name of a unit that ends in `.service`".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn several_devices_are_read() {
        let line = ["host-flash", "--target", "jetson-orin", "--to", "a,b@c:2", "--to", "d"];
        let options = Options::parse_from(line);
        let hosts: Vec<String> = options.to.iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["a", "b@c:2", "d"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in [
            &["--status", "--rollback"][..],
            &["--unit", "a b.service"],
            &["--unit", "-x.service"],
            &["--unit", "headroom"],
            &["--root", "opt"],
            &["--keep", "1"],
            &["--to", "-oProxyCommand=x"],
            &["--print-setup"],
            &["--probe", "stlink"],
            &["--speed", "0"],
        ] {
            let line = ["host-flash", "--target", "jetson-orin", "--to", "a"].into_iter().chain(wrong.iter().copied());
            assert!(Options::try_parse_from(line).is_err(), "{wrong:?}");
        }
        assert!(Options::try_parse_from(["host-flash", "--target", "toaster", "--to", "a"]).is_err());
    }

    #[test]
    fn each_kind_of_board_has_its_options() {
        let misuse = |line: &str| Options::parse_from(line.split(' ')).misuse();
        for right in [
            "host-flash --target jetson-orin --to a --bundle b --runtime c",
            "host-flash --target jetson-orin --print-setup --unit-file a",
            "host-flash --target nucleo-h743zi --bundle b --dry-run",
            "host-flash --target rp2350 --bundle b --firmware f --probe 2e8a:000c --speed 1000 --json",
        ] {
            assert_eq!(misuse(right), None, "{right}");
        }
        for (wrong, expected) in [
            ("host-flash --target jetson-orin", "--to"),
            ("host-flash --target jetson-orin --to a --firmware f", "--firmware is for boards without"),
            ("host-flash --target rp2350", "--bundle"),
            ("host-flash --target rp2350 --bundle b --to a", "--to is for boards that run Linux"),
            ("host-flash --target rp2350 --bundle b --status", "--status is for boards that run Linux"),
        ] {
            let text = misuse(wrong).unwrap_or_else(|| panic!("{wrong}"));
            assert!(text.contains(expected), "{text}");
        }
    }
}
