//! Tells how good the rungs of bundles are.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use headroom_device::program::{self, EXIT_INTERRUPTED};
use headroom_host::eval::{self, EvalError, Options};
use headroom_host::interrupt::{self, INTERRUPTED};
use headroom_host::progress::{Drawn, Progress, Silent};

fn main() -> ExitCode {
    let options = Options::parse();
    if let Err(error) = interrupt::handle("interrupted: again to stop at once") {
        anstream::eprintln!("Ctrl-C will stop without a word: {error}");
    }
    let progress: &dyn Progress = if options.quiet { &Silent } else { &Drawn::default() };
    match eval::run(&options, progress, &INTERRUPTED) {
        Ok(report) => program::printed(program::print(options.json, &report, || report.text())),
        Err(error) => {
            let code = program::report(&error, error.hint().as_deref());
            if matches!(error, EvalError::Interrupted { .. }) { ExitCode::from(EXIT_INTERRUPTED) } else { code }
        }
    }
}
