//! Runs the governor against a simulated board in virtual time.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use headroom_device::{program, replay};

fn main() -> ExitCode {
    match replay::run(&replay::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => program::report(&error, error.hint().as_deref()),
    }
}
