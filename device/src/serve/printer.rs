//! Results on stdout, one JSON line each, from a thread of its own: whoever reads them slowly keeps no worker waiting.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde::Serialize;

use super::unanswered::Unanswered;
use crate::run::output::{Line, OUTPUT_VERSION, top_classes, write_line};
use crate::runtime::{Answer, Client, Frame, Refusal, Reply};

/// Which part of a reply is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Printed {
    Embedding,
    /// So many classes.
    Classes(usize),
}

/// A frame without a result.
#[derive(Serialize)]
struct RefusedLine<'a> {
    version: u32,
    input: &'a str,
    /// Why.
    refused: String,
}

/// Where an input sends its frames.
pub(super) struct Frames {
    client: Client,
    pub unanswered: Arc<Unanswered>,
    answers: Sender<(String, Answer)>,
}

/// Prints the answers to the frames of one input.
pub(super) struct Printer {
    printed: Printed,
    unanswered: Arc<Unanswered>,
    answers: Receiver<(String, Answer)>,
}

/// Frames whose answers are not printed yet. Beyond that, the input waits.
const MOST_UNPRINTED: usize = 64;

/// The two ends for an input that sends as `client`.
pub(super) fn frames_and_printer(client: Client, printed: Printed) -> (Frames, Printer) {
    let (sender, receiver) = channel();
    let unanswered = Arc::new(Unanswered::new(MOST_UNPRINTED));
    let printer = Printer { printed, unanswered: unanswered.clone(), answers: receiver };
    (Frames { client, unanswered, answers: sender }, printer)
}

impl Frames {
    /// Sends a frame called `name`; false where no more are to come.
    pub(super) fn send(&self, name: String, frame: Frame) -> bool {
        if !self.unanswered.begin() {
            return false;
        }
        let answers = self.answers.clone();
        self.client.submit(frame, move |answer| {
            // Where printing has failed, nobody waits for it.
            let _ = answers.send((name, answer));
        });
        true
    }
}

impl Printer {
    /// Prints until the input has ended and all its answers are there.
    pub(super) fn run(self) -> io::Result<()> {
        for (input, answer) in &self.answers {
            let written = match answer {
                Ok(reply) => print_reply(&input, &reply, self.printed),
                Err(refusal) => print_refusal(&input, &refusal),
            };
            if written.is_err() {
                self.unanswered.abandon();
                return written;
            }
            self.unanswered.end();
        }
        Ok(())
    }
}

fn print_reply(input: &str, reply: &Reply, printed: Printed) -> io::Result<()> {
    let labels = reply.bundle.description().labels.as_deref();
    let classes = match printed {
        Printed::Classes(count) => top_classes(reply.logits.as_deref(), count, labels),
        Printed::Embedding => None,
    };
    write_line(&Line {
        version: OUTPUT_VERSION,
        input,
        rung: reply.rung.into(),
        macs: reply.macs,
        fidelity: reply.fidelity,
        milliseconds: reply.latency.as_seconds() * 1e3,
        queued_milliseconds: Some(reply.queued.as_seconds() * 1e3),
        embedding: classes.is_none().then_some(&reply.embedding),
        classes,
    })
}

fn print_refusal(input: &str, refusal: &Refusal) -> io::Result<()> {
    write_line(&RefusedLine { version: OUTPUT_VERSION, input, refused: refusal.to_string() })
}
