//! Runs an elastic Vision Transformer from a bundle.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use headroom_device::{program, run};

fn main() -> ExitCode {
    match run::run(&run::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the results has closed the pipe: nothing more to say.
        Err(run::RunError::Write(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => program::report(&error, error.hint().as_deref()),
    }
}
