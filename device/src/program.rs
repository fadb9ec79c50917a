//! What all programs of Headroom say the same way: errors, hints, exit codes.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 success,
//! 1 failure, 2 wrong usage (clap's), 130 interrupted.

use std::error::Error;
use std::io::{self, Write};
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

/// Results that could not be printed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the results")]
struct NotPrinted {
    source: io::Error,
}

/// Prints a result to stdout: as JSON, or as `text` for people.
///
/// # Errors
/// If stdout cannot be written to: a full disk, a reader that went away.
pub fn print(json: bool, report: &impl Serialize, text: impl Fn() -> String) -> io::Result<()> {
    let text = if json { serde_json::to_string_pretty(report)? } else { text() };
    print_text(&format!("{text}\n"))
}

/// Prints text to stdout, without colour where it is no terminal or `NO_COLOR` is set.
///
/// # Errors
/// As [`print`].
pub fn print_text(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The exit code of a program that has printed its results, or could not.
pub fn printed(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(source) => report(&NotPrinted { source }, None),
    }
}
