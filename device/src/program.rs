//! What all programs of Headroom say the same way: errors, hints, exit codes.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 success,
//! 1 failure, 2 wrong usage (clap's), 130 interrupted.

use std::error::Error;
use std::process::ExitCode;

use serde::Serialize;

use crate::error_text::causes;

/// The exit code after Ctrl-C, by convention 128 + SIGINT.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Prints what failed, then the causes that each add a fact, then a hint that
/// the reader can act on. Colour is left out where stderr is no terminal or
/// `NO_COLOR` is set.
pub fn report(error: &dyn Error, hint: Option<&str>) -> ExitCode {
    let red = anstyle::AnsiColor::Red.on_default().bold();
    let cyan = anstyle::AnsiColor::Cyan.on_default().bold();
    anstream::eprintln!("{red}error:{red:#} {error}");
    for cause in causes(error) {
        anstream::eprintln!("  cause: {cause}");
    }
    if let Some(hint) = hint {
        anstream::eprintln!("{cyan}hint:{cyan:#} {hint}");
    }
    ExitCode::FAILURE
}

/// Prints a result to stdout: as JSON, or as `text` for people.
pub fn print(json: bool, report: &impl Serialize, text: impl Fn() -> String) {
    if !json {
        anstream::println!("{}", text());
        return;
    }
    match serde_json::to_string_pretty(report) {
        Ok(json) => anstream::println!("{json}"),
        Err(error) => anstream::eprintln!("the report cannot be printed as JSON: {error}"),
    }
}
