//! Signals, as requests to the program.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::control::{Control, Controls, Report};
use super::error::ServeError;
use super::spawn;

/// From here on, SIGTERM and SIGINT end the program cleanly, SIGHUP reloads and SIGUSR1 dumps the flight record.
pub(super) fn watch(controls: Controls) -> Result<(), ServeError> {
    let mut signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1]).map_err(|source| ServeError::Signals { source })?;
    let pass_on = move || {
        for signal in signals.forever() {
            match signal {
                SIGHUP => controls.reload(Report::to_nobody()),
                SIGUSR1 => controls.send(Control::Dump(Report::to_nobody())),
                _ => controls.send(Control::Stop),
            }
        }
    };
    // It waits for signals as long as the program lives.
    spawn("signals", pass_on)
}
