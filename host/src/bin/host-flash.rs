//! Makes keys, and signs bundles for devices that trust them.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use headroom_host::signing;

/// Makes keys, and signs bundles for devices that trust them.
///
/// Results go to stdout, everything else to stderr.
#[derive(Debug, Parser)]
#[command(name = "host-flash", version)]
struct Arguments {
    #[command(subcommand)]
    command: signing::Command,
}

fn main() -> ExitCode {
    signing::main(&Arguments::parse().command)
}
