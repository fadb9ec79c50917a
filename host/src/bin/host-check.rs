//! Checks and times every rung on this machine, against the CPU engine.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use headroom_device::program;
use headroom_host::check::{self, Options};
use headroom_host::interrupt::{self, INTERRUPTED};

fn main() -> ExitCode {
    let options = Options::parse();
    if let Err(error) = interrupt::handle("interrupted: again to stop at once") {
        anstream::eprintln!("Ctrl-C will stop without a word: {error}");
    }
    match check::run(&options, &INTERRUPTED) {
        Ok(report) => {
            let printed = program::print(options.json, &report, || report.text());
            if printed.is_ok() && !report.passed { ExitCode::FAILURE } else { program::printed(printed) }
        }
        Err(error) => program::report(&error, error.hint().as_deref()),
    }
}
