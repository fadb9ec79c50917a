//! What the threads of the program ask of its main thread.

use std::sync::mpsc::Sender;

use super::error::ServeError;

/// A request to the main thread.
pub(super) enum Control {
    /// SIGTERM or SIGINT.
    Stop,
    /// Write the flight record.
    Dump(Report),
    /// Images or stdin have ended, or cannot go on.
    InputEnded(Result<(), ServeError>),
}

/// Where signals and clients send what they ask for.
#[derive(Clone)]
pub(super) struct Controls {
    pub main: Sender<Control>,
    /// To the thread that reads limits and bundle again.
    pub reload: Sender<Report>,
}

impl Controls {
    pub(super) fn send(&self, control: Control) {
        // A main thread that has ended needs nothing more; what was asked is answered by being dropped.
        let _ = self.main.send(control);
    }

    pub(super) fn reload(&self, report: Report) {
        let _ = self.reload.send(report);
    }
}

/// Tells whoever asked what came of it, exactly once: where nobody does, that the program ends.
pub(super) struct Report(Option<Box<Tell>>);

/// Takes what came of a request, for people.
type Tell = dyn FnOnce(Result<&str, &str>) + Send;

impl Report {
    pub(super) fn new(tell: impl FnOnce(Result<&str, &str>) + Send + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    /// For signals, whose sender hears nothing; the log says it anyway.
    pub(super) fn to_nobody() -> Self {
        Self(None)
    }

    pub(super) fn tell(mut self, outcome: Result<&str, &str>) {
        if let Some(tell) = self.0.take() {
            tell(outcome);
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(tell) = self.0.take() {
            tell(Err("shutting down"));
        }
    }
}
