//! Ctrl-C: the first asks the job to stop and to write the best so far, the
//! second ends the program at once.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use headroom_device::program::EXIT_INTERRUPTED;

/// Set by the first Ctrl-C (or SIGTERM); long work looks at it between steps.
pub static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A folder of unfinished files, which the second Ctrl-C removes: an exit
/// runs no destructors.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Handles Ctrl-C from now on; says `first` at the first one.
///
/// # Errors
/// If the operating system refuses the handler.
pub fn handle(first: &'static str) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(move || {
        if !INTERRUPTED.swap(true, Ordering::SeqCst) {
            anstream::eprintln!("{first}");
            return;
        }
        if let Some(folder) = UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The program ends whether this works or not.
            let _ = std::fs::remove_dir_all(folder);
        }
        std::process::exit(i32::from(EXIT_INTERRUPTED));
    })
}

/// Says which folder to remove if the program is stopped at once.
pub fn remove_if_stopped(folder: PathBuf) {
    *UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder);
}
