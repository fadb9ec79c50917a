//! One client, from its hello to its end.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use headroom_shared::wire::{self, ErrorKind, MAX_HELLO_BYTES, MAX_REQUEST_BYTES, MAX_UNANSWERED, Request, WireError};

use super::Context;
use super::incoming::{Incoming, IncomingError};
use super::outgoing::{Outgoing, send_error, served_model, write};
use crate::images::RgbImage;
use crate::runtime::{Client, Frame, WhenFull};
use crate::serve::control::{Control, Report};
use crate::serve::unanswered::Unanswered;

/// Serves one client until it leaves, is cut off or the server ends.
pub(super) fn serve(context: &Context, stream: &UnixStream) {
    let mut incoming = Incoming::new(stream);
    let hello = match incoming.first(MAX_HELLO_BYTES) {
        Ok(Some(payload)) => Request::read_hello(payload).map_err(IncomingError::from),
        Ok(None) => return,
        Err(error) => Err(error),
    };
    match hello {
        Ok((when_full, most_waiting)) => {
            let client = context.runtime.client(when_full_of(when_full)).with_most_waiting(most_waiting.into());
            converse(context, stream, &mut incoming, client);
        }
        Err(error) => {
            context.complain(&format!("a client was refused: {error}"));
            send_error(stream, kind(&error), &error.to_string());
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn converse(context: &Context, stream: &UnixStream, incoming: &mut Incoming<'_>, client: Client) {
    let unanswered = Arc::new(Unanswered::new(MAX_UNANSWERED));
    let (responses, receiver) = channel();
    thread::scope(|scope| {
        let writer = thread::Builder::new().name("client writer".into()).spawn_scoped(scope, {
            let unanswered = unanswered.clone();
            move || write(stream, &receiver, &unanswered)
        });
        if let Err(error) = writer {
            context.complain(&format!("a client was lost: {error}"));
            return;
        }
        let session = Session { context, client, responses, unanswered: unanswered.clone() };
        session.send(Outgoing::Hello(served_model(&context.runtime.bundle())));
        let ended = session.read_requests(incoming);
        session.say_goodbye(ended);
        // The writer ends when it has written all of it, because nobody holds a sender any more.
    });
}

/// What the reader of one client works with.
struct Session<'a> {
    context: &'a Context,
    client: Client,
    responses: Sender<Outgoing>,
    unanswered: Arc<Unanswered>,
}

impl Session<'_> {
    /// Takes requests until the stream ends or says something that is none.
    fn read_requests(&self, incoming: &mut Incoming<'_>) -> Result<(), IncomingError> {
        loop {
            // Room for the response first: a client that takes none sends no more.
            if !self.unanswered.begin() {
                return Ok(());
            }
            let request = match incoming.next(MAX_REQUEST_BYTES) {
                Ok(Some(payload)) => Request::read(payload).map_err(IncomingError::from),
                Ok(None) => {
                    self.unanswered.end();
                    return Ok(());
                }
                Err(error) => Err(error),
            };
            match request {
                Ok(request) => self.begin(&request),
                Err(error) => {
                    self.unanswered.end();
                    return Err(error);
                }
            }
        }
    }

    /// Begins what a request asks for; its response comes later.
    fn begin(&self, request: &Request<'_>) {
        match *request {
            Request::Infer { id, width, height, outputs, rgb } => {
                let responses = self.responses.clone();
                let answer = move |answer| {
                    // Only the end of the writer, and with it of the client, closes the channel.
                    let _ = responses.send(Outgoing::Answer { id, outputs, answer });
                };
                // `Request::read` has checked that the bytes are those of the size.
                let image = RgbImage::from_raw(width, height, rgb.to_vec()).unwrap_or_default();
                self.client.submit(Frame::Rgb(image), answer);
            }
            Request::Status { id } => {
                let runtime = &self.context.runtime;
                self.send(Outgoing::Status {
                    id,
                    model: served_model(&runtime.bundle()),
                    decision: runtime.decision(),
                    sensors: runtime.sensors(),
                    waiting: runtime.waiting(),
                });
            }
            Request::Reload { id } => self.context.controls.reload(self.report(id)),
            Request::DumpFlightRecord { id } => self.context.controls.send(Control::Dump(self.report(id))),
            // `Request::read` refuses it; requests that a later version adds are not decoded by this one.
            _ => self.unanswered.end(),
        }
    }

    fn report(&self, id: u64) -> Report {
        let responses = self.responses.clone();
        Report::new(move |outcome| {
            let outcome = outcome.map(str::to_owned).map_err(str::to_owned);
            let _ = responses.send(Outgoing::Report { id, outcome });
        })
    }

    /// Waits for what was accepted and says why the conversation ends, if it is not the client that ended it.
    fn say_goodbye(self, ended: Result<(), IncomingError>) {
        let error = match ended {
            Ok(()) if self.context.is_stopping() => Some((ErrorKind::ShuttingDown, "shutting down".to_owned())),
            Ok(()) => None,
            Err(error) => {
                self.context.complain(&format!("a client was cut off: {error}"));
                Some((kind(&error), error.to_string()))
            }
        };
        self.unanswered.wait_for_all();
        if let Some((kind, text)) = error {
            self.send(Outgoing::Error { kind, text });
        }
    }

    fn send(&self, outgoing: Outgoing) {
        let _ = self.responses.send(outgoing);
    }
}

fn when_full_of(when_full: wire::WhenFull) -> WhenFull {
    match when_full {
        wire::WhenFull::DropOldest => WhenFull::DropOldest,
        wire::WhenFull::Refuse => WhenFull::Refuse,
        wire::WhenFull::Wait => WhenFull::Wait,
    }
}

fn kind(error: &IncomingError) -> ErrorKind {
    match error {
        IncomingError::Wire(WireError::Version { .. }) => ErrorKind::Version,
        IncomingError::Wire(_) | IncomingError::Cut => ErrorKind::Malformed,
        IncomingError::Stalled | IncomingError::Read(_) => ErrorKind::Stalled,
    }
}
