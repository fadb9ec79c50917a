//! Brings a runtime and a bundle to devices and makes them serve it.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::Parser;
use headroom_device::program::{self, EXIT_INTERRUPTED};
use headroom_host::flash::{self, Options};
use headroom_host::interrupt::{self, INTERRUPTED};
use headroom_host::progress::{Drawn, Progress, Silent};

fn main() -> ExitCode {
    let options = Options::parse();
    if options.task.print_setup {
        return match flash::setup_script(&options) {
            Ok(script) => {
                anstream::print!("{script}");
                ExitCode::SUCCESS
            }
            Err(error) => program::report(&error, error.hint().as_deref()),
        };
    }
    if let Err(error) = interrupt::handle("interrupted: stopping before the next step; again to stop at once") {
        anstream::eprintln!("Ctrl-C will stop without a word: {error}");
    }
    let progress: &dyn Progress = if options.quiet { &Silent } else { &Drawn::default() };
    match flash::run(&options, progress, &INTERRUPTED) {
        Ok(report) => {
            program::print(options.json, &report, || report.text(options.task.list));
            for message in report.messages() {
                anstream::eprintln!("{message}");
            }
            if report.is_success() {
                ExitCode::SUCCESS
            } else if INTERRUPTED.load(Ordering::SeqCst) {
                ExitCode::from(EXIT_INTERRUPTED)
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => program::report(&error, error.hint().as_deref()),
    }
}
