//! Makes a pretrained Vision Transformer elastic.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use headroom_device::program::{self, EXIT_INTERRUPTED};
use headroom_host::interrupt::{self, INTERRUPTED};
use headroom_host::progress::{Drawn, Progress, Silent};
use headroom_host::prune::{self, Options};

fn main() -> ExitCode {
    let options = Options::parse();
    if options.describe.is_some() {
        return match prune::describe(&options) {
            Ok(report) => program::printed(program::print(options.json, &report, || report.text())),
            Err(error) => program::report(&error, error.hint().as_deref()),
        };
    }
    if let Err(error) = interrupt::handle("interrupted: writing the best so far; again to stop at once") {
        anstream::eprintln!("Ctrl-C will not write the best so far: {error}");
    }
    let progress: &dyn Progress = if options.quiet { &Silent } else { &Drawn::default() };
    match prune::run(&options, progress, &INTERRUPTED) {
        Ok(ending) => {
            let printed = program::print(options.json, &ending.report, || ending.report.text());
            if let Some(error) = ending.failure {
                return program::report(&error, error.hint().as_deref());
            }
            if printed.is_ok() && ending.interrupted { EXIT_INTERRUPTED.into() } else { program::printed(printed) }
        }
        Err(error) if error.is_interruption() => {
            program::report(&error, error.hint().as_deref());
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Err(error) => program::report(&error, error.hint().as_deref()),
    }
}
