//! QEMU with the firmware, and its serial line.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use headroom_shared::wire::serial::{stuff, unstuff};
use headroom_shared::wire::{Response, SerialRequest};

use super::Built;

/// Longer than any answer takes here.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the clock of the board goes by.
#[derive(Clone, Copy)]
pub enum Clock {
    /// The time here.
    Real,
    /// One nanosecond for each instruction.
    Instructions,
}

/// A running board.
pub struct Emulator {
    child: Child,
    line: ChildStdin,
    messages: Receiver<Vec<u8>>,
}

/// What tests look at of a message.
#[derive(Debug, PartialEq)]
pub enum Answer {
    Hello { rungs: usize },
    Result(Inference),
    Status { rung: usize, mode: String, binding: String },
    Done,
    Failed(String),
    Error(String),
    Refused,
}

/// A result.
#[derive(Debug, PartialEq)]
pub struct Inference {
    pub rung: usize,
    pub macs: u64,
    pub nanoseconds: u64,
    pub embedding: Vec<f32>,
    pub logits: Vec<f32>,
}

impl Emulator {
    pub fn start(built: &Built, clock: Clock) -> Self {
        Self::start_with(&built.firmware, &built.image, clock)
    }

    pub fn start_with(firmware: &Path, image: &Path, clock: Clock) -> Self {
        let mut command = Command::new("qemu-system-arm");
        command.args(["-cpu", "cortex-m7", "-machine", "mps2-an500", "-display", "none", "-monitor", "none"]);
        command.args(["-serial", "stdio", "-kernel"]).arg(firmware);
        command.arg("-device").arg(format!("loader,file={},addr=0x20000,force-raw=on", image.display()));
        if let Clock::Instructions = clock {
            command.args(["-icount", "shift=0"]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("QEMU starts");
        let (line, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            for byte in BufReader::new(output).bytes() {
                match byte {
                    Ok(0) => {
                        if sender.send(std::mem::take(&mut message)).is_err() {
                            return;
                        }
                    }
                    Ok(byte) => message.push(byte),
                    Err(_) => return,
                }
            }
        });
        Self { child, line, messages }
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.line.write_all(bytes).unwrap();
        self.line.flush().unwrap();
    }

    /// Sends a request and waits for the answer with its id; the board's own messages have id 0.
    pub fn ask(&mut self, request: &SerialRequest<'_>, id: u64) -> Answer {
        let mut buffer = vec![0; 64 * 1024];
        let bytes = stuff(request, &mut buffer).unwrap().to_vec();
        self.send_bytes(&bytes);
        loop {
            let (of, answer) = self.receive();
            if of == Some(id) {
                return answer;
            }
            assert!(of == Some(0), "unasked: {answer:?}");
        }
    }

    /// The next message, whatever it is.
    pub fn next(&mut self) -> Answer {
        self.receive().1
    }

    /// The next message that answers no request.
    pub fn next_error(&mut self) -> Answer {
        loop {
            let (of, answer) = self.receive();
            if of.is_none() {
                return answer;
            }
        }
    }

    fn receive(&mut self) -> (Option<u64>, Answer) {
        let mut message = self.messages.recv_timeout(PATIENCE).expect("the firmware answers");
        let payload = unstuff(&mut message).unwrap();
        match Response::read(payload).unwrap() {
            Response::Hello { model, .. } => (None, Answer::Hello { rungs: model.rungs.into() }),
            Response::Result { id, rung, macs, latency, embedding, logits, .. } => {
                let inference = Inference {
                    rung: rung.into(),
                    macs,
                    nanoseconds: latency.as_nanoseconds(),
                    embedding: embedding.iter().collect(),
                    logits: logits.iter().collect(),
                };
                (Some(id), Answer::Result(inference))
            }
            Response::Refused { id, .. } => (Some(id), Answer::Refused),
            Response::Status { id, rung, mode, binding, .. } => {
                (Some(id), Answer::Status { rung: rung.into(), mode: mode.to_owned(), binding: binding.to_owned() })
            }
            Response::Done { id, text } => {
                if id == 0 {
                    println!("{text}");
                }
                (Some(id), Answer::Done)
            }
            Response::Failed { id, text } => (Some(id), Answer::Failed(text.to_owned())),
            Response::Error { text, .. } => (None, Answer::Error(text.to_owned())),
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
