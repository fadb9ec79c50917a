//! Checks and times Headroom on this machine.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use headroom_device::program::{self, EXIT_INTERRUPTED};
use headroom_host::check::{self, Options};
use headroom_host::interrupt::{self, INTERRUPTED};
use headroom_host::progress::{Drawn, Progress, Silent};

fn main() -> ExitCode {
    let options = Options::parse();
    if let Err(error) = interrupt::handle("interrupted: again to stop at once") {
        anstream::eprintln!("Ctrl-C will stop without a word: {error}");
    }
    let progress: &dyn Progress = if options.quiet { &Silent } else { &Drawn::default() };
    match check::run(&options, progress, &INTERRUPTED) {
        Ok(report) => {
            // First, so that a report that cannot be written is not lost.
            let printed = program::print_text(&format!("{}\n", report.text()));
            if let Err(error) = check::write(&options, &report) {
                return program::report(&error, error.hint().as_deref());
            }
            if printed.is_ok() && !report.passed { ExitCode::FAILURE } else { program::printed(printed) }
        }
        Err(error) => {
            let code = program::report(&error, error.hint().as_deref());
            if error.is_interruption() { ExitCode::from(EXIT_INTERRUPTED) } else { code }
        }
    }
}
