//! How a function of the C interface ended, and the text about it.

use std::any::Any;
use std::cell::RefCell;
use std::error::Error;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error_text::with_causes;

/// How a call ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadroomStatus {
    Ok = 0,
    /// A pointer is null or not aligned.
    InvalidPointer = 1,
    /// A buffer or image has another size than is needed.
    WrongSize = 2,
    /// A text is not UTF-8, or a number is out of its range.
    InvalidArgument = 3,
    /// The bundle is refused.
    Bundle = 4,
    /// The measured profiles are refused.
    MeasuredProfile = 5,
    /// The ladder has no such rung.
    NoSuchRung = 6,
    /// No rung fits the budget.
    NothingFits = 7,
    /// The engine or the preprocessing refuses the input.
    Inference = 8,
    /// The limits make no sense, or not together.
    Limits = 9,
    /// Another thread is using the session.
    Busy = 10,
    /// A newer request of the same client took the place of this one.
    Dropped = 11,
    /// There is no room for another request.
    QueueFull = 12,
    /// The runtime has stopped or is about to.
    Stopped = 13,
    /// Nothing was answered in time.
    TimedOut = 14,
    /// The operating system refused something.
    System = 15,
    /// A defect of the library.
    Internal = 16,
}

/// A status with the text about it.
#[derive(Debug)]
pub(super) struct Failure {
    pub status: HeadroomStatus,
    pub message: String,
}

impl Failure {
    pub(super) fn new(status: HeadroomStatus, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The error with the causes that each add a fact.
    pub(super) fn of(status: HeadroomStatus, error: &dyn Error) -> Self {
        Self::new(status, with_causes(error))
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// What the last call of this thread that did not return `HEADROOM_STATUS_OK` says about it; empty before the first.
/// Valid until the next such call of this thread; not for other threads.
#[unsafe(no_mangle)]
pub extern "C" fn headroom_last_error() -> *const c_char {
    // Destructors of other thread-local values may call when this one is gone.
    LAST_ERROR.try_with(|text| text.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// Runs the body of a function: remembers its failure, and turns a panic into one.
pub(super) fn guarded(body: impl FnOnce() -> Result<(), Failure>) -> HeadroomStatus {
    // What the body changes is either behind a lock, which remembers a panic, or the caller's output.
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let message = format!("a defect of the library: {}", panic_text(panic.as_ref()));
        Err(Failure::new(HeadroomStatus::Internal, message))
    });
    match result {
        Ok(()) => HeadroomStatus::Ok,
        Err(failure) => {
            // C ends a text at its first 0.
            let text = CString::new(failure.message.replace('\0', " ")).unwrap_or_default();
            let _ = LAST_ERROR.try_with(|last| last.replace(text));
            failure.status
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn last_error() -> String {
        // SAFETY: valid until the next failure of this thread, and copied at once.
        unsafe { CStr::from_ptr(headroom_last_error()) }.to_string_lossy().into_owned()
    }

    #[test]
    fn failures_and_panics_become_a_status_with_a_text_of_their_thread() {
        assert_eq!(guarded(|| Ok(())), HeadroomStatus::Ok);
        assert_eq!(guarded(|| Err(Failure::new(HeadroomStatus::Busy, "in\0use"))), HeadroomStatus::Busy);
        assert_eq!(last_error(), "in use");
        assert_eq!(guarded(|| panic!("out of {}", "cheese")), HeadroomStatus::Internal);
        assert_eq!(last_error(), "a defect of the library: out of cheese");
        std::thread::spawn(|| assert_eq!(last_error(), "")).join().unwrap();
        assert_eq!(guarded(|| Ok(())), HeadroomStatus::Ok);
        assert!(last_error().contains("cheese"), "a success leaves the text alone");
    }
}
