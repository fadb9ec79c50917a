//! Brings a runtime and a bundle to devices and makes them serve it; makes keys and signs bundles for that.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::{Args, FromArgMatches, Subcommand};
use headroom_device::program::{self, EXIT_INTERRUPTED};
use headroom_host::flash::pack::{self, PackArguments};
use headroom_host::flash::probe::{self, ProbeError};
use headroom_host::flash::{self, Options};
use headroom_host::flash_image::{self, ImageArguments};
use headroom_host::interrupt::{self, INTERRUPTED};
use headroom_host::progress::{Drawn, Progress, Silent};
use headroom_host::signing;

/// What needs no device.
#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Signing(signing::Command),
    /// Packs a release as a tar archive or an OCI image, for engines of fleets: Mender, balena, registries.
    Pack(PackArguments),
    /// Makes the image for the flash of a board without an operating system, and tells where it goes.
    Image(ImageArguments),
}

/// Installing takes options alone; what needs no device is a subcommand, which takes none of them.
fn command() -> clap::Command {
    // The options last: what they say about the program stands.
    Options::augment_args(Command::augment_subcommands(clap::Command::new("host-flash")))
        .args_conflicts_with_subcommands(true)
        .subcommand_negates_reqs(true)
}

fn main() -> ExitCode {
    let matches = command().get_matches();
    if matches.subcommand().is_some() {
        return match Command::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()) {
            Command::Signing(command) => signing::main(&command),
            Command::Pack(arguments) => match pack::pack(&arguments) {
                Ok(report) => program::printed(program::print(arguments.json, &report, || report.text())),
                Err(error) => program::report(&error, error.hint().as_deref()),
            },
            Command::Image(arguments) => match flash_image::write(&arguments) {
                Ok(report) => program::printed(program::print(arguments.json, &report, || report.text())),
                Err(error) => program::report(&error, error.hint().as_deref()),
            },
        };
    }
    let options = Options::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if let Some(text) = options.misuse() {
        command().error(clap::error::ErrorKind::MissingRequiredArgument, text).exit();
    }
    let progress: &dyn Progress = if options.quiet { &Silent } else { &Drawn::default() };
    if options.needs_probe() { write_board(&options, progress) } else { flash_devices(&options, progress) }
}

fn write_board(options: &Options, progress: &dyn Progress) -> ExitCode {
    stop_politely("interrupted: stopping before the next region; again to stop at once, in the middle of this one");
    match probe::run(options, progress, &INTERRUPTED) {
        Ok(report) => program::printed(program::print(options.json, &report, || report.text())),
        Err(error @ ProbeError::Interrupted { .. }) => {
            program::report(&error, error.hint().as_deref());
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Err(error) => program::report(&error, error.hint().as_deref()),
    }
}

fn stop_politely(first: &'static str) {
    if let Err(error) = interrupt::handle(first) {
        anstream::eprintln!("Ctrl-C will stop without a word: {error}");
    }
}

fn flash_devices(options: &Options, progress: &dyn Progress) -> ExitCode {
    if options.task.print_setup {
        return match flash::setup_script(options) {
            Ok(script) => program::printed(program::print_text(&script)),
            Err(error) => program::report(&error, error.hint().as_deref()),
        };
    }
    stop_politely("interrupted: stopping before the next step; again to stop at once");
    match flash::run(options, progress, &INTERRUPTED) {
        Ok(report) => {
            let printed = program::print(options.json, &report, || report.text(options.task.list));
            for message in report.messages() {
                anstream::eprintln!("{message}");
            }
            if report.is_success() {
                program::printed(printed)
            } else if INTERRUPTED.load(Ordering::SeqCst) {
                ExitCode::from(EXIT_INTERRUPTED)
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => program::report(&error, error.hint().as_deref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn options_and_subcommands_do_not_mix() {
        let is_accepted = |line: &str| command().try_get_matches_from(line.split(' ')).is_ok();
        assert!(is_accepted("host-flash --target jetson-orin --to sign"));
        assert!(is_accepted("host-flash sign --bundle b --release 1"));
        assert!(!is_accepted("host-flash --target jetson-orin --to a sign --bundle b --release 1"));
        assert!(!is_accepted("host-flash"));
    }
}
