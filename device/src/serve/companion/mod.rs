//! `--supervisor`: a microcontroller beside the device tells the rung, by sensors of its own.
//!
//! [`headroom_shared::wire::companion`] has the messages and who decides what; `docs/companion.md` the wiring and what
//! happens when something fails.
//!
//! | file | job |
//! |---|---|
//! | `port` | the serial port: opening, reading, writing |
//! | `tally` | what ran since the last telemetry |
//!
//! [`crate::supervisor_link`] says whether decisions count. One thread does all of it, and nothing waits for that
//! thread: the runtime drops advice that is no longer valid by itself. A port that vanishes is opened again, ever less
//! often.

mod port;
mod tally;

pub use port::{DEFAULT_BAUD, PortError, SerialLine};

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use headroom_shared::wire::companion::{
    MAX_COMPANION_FRAME_BYTES, MAX_COMPANION_REQUEST_BYTES, SupervisedLimits, SupervisedTemperatures,
};
use headroom_shared::wire::serial::{Received, Receiver, stuff, unstuff};
use headroom_shared::wire::{
    CompanionReport, CompanionRequest, Envelope, ErrorKind, Response, RungCost, RungCosts, SerialRequest,
};
use headroom_shared::{Power, TimeSpan};

use super::machine::Machine;
use super::watcher::Watcher;
use crate::error_text::with_causes;
use crate::governor::TemperatureLimits;
use crate::lock::lock;
use crate::reading::InferenceSample;
use crate::runtime::{Event, Runtime, Terms};
use crate::supervisor_link::{Due, FrameCounts, Link, LinkState, Measured};
use port::Port;
use tally::Tally;

/// How long the thread waits for bytes at a time.
const READ_TIME: Duration = Duration::from_millis(200);

/// Pauses before a port is opened again: doubled each time that it does not open.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// What the thread of the link shares with the rest of the program.
#[derive(Default)]
pub(super) struct Supervised {
    tally: Tally,
    /// At the supervisor's sensor, where they are others than the device's.
    temperature: Mutex<Option<TemperatureLimits>>,
}

impl Supervised {
    /// Takes in what happened.
    pub(super) fn see(&self, event: &Event<'_>) {
        if let Event::Answered(reply) = event {
            self.tally.count(InferenceSample { rung: reply.rung, latency: reply.latency });
        }
    }

    /// The temperatures to stay below at the supervisor's sensor; `None` are those of the device.
    pub(super) fn set_temperature(&self, temperature: Option<TemperatureLimits>) {
        *lock(&self.temperature) = temperature;
    }
}

/// The thread of the link.
pub(super) struct Companion {
    pub line: SerialLine,
    pub runtime: Arc<Runtime>,
    pub machine: Arc<Machine>,
    pub watcher: Arc<Watcher>,
    pub supervised: Arc<Supervised>,
}

/// Refuses what will never be a port.
pub(super) fn check(line: &SerialLine) -> Result<(), PortError> {
    port::check(line)
}

impl Companion {
    /// Goes on for as long as the program.
    pub(super) fn run(&self) {
        let started = Instant::now();
        let mut session = Session {
            companion: self,
            started,
            // No two runs that follow each other begin with the same number.
            link: Link::new(std::process::id().rotate_left(16)),
            terms: self.runtime.terms(),
            temperature: None,
            told: LinkState::Closed,
        };
        self.watcher.supervisor(LinkState::Closed, FrameCounts::default(), Measured::default());
        session.take_terms(self.runtime.terms());
        let (mut pause, mut complaint) = (FIRST_PAUSE, String::new());
        loop {
            let ended = match Port::open(&self.line) {
                Ok(port) => {
                    (pause, complaint) = (FIRST_PAUSE, String::new());
                    session.link.opened(session.now());
                    let path = self.line.path.display().to_string();
                    let error = session.converse(&port);
                    session.link.closed(session.now());
                    session.tell("");
                    format!("the serial port `{path}` is gone: {error}")
                }
                Err(error) => with_causes(&error as &dyn Error).replace('\n', " "),
            };
            // The same reason is told once, however often the port is tried.
            if ended != complaint {
                anstream::eprintln!("supervisor: {ended}; the own governor decides alone");
                complaint = ended;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// The link with what it is about.
struct Session<'a> {
    companion: &'a Companion,
    /// The zero of the link's time.
    started: Instant,
    link: Link,
    terms: Terms,
    temperature: Option<TemperatureLimits>,
    /// The state that the log was told last.
    told: LinkState,
}

impl Session<'_> {
    fn now(&self) -> TimeSpan {
        self.started.elapsed().into()
    }

    /// Talks until the port is gone, and says why it is.
    fn converse(&mut self, port: &Port) -> io::Error {
        let mut frame = [0; MAX_COMPANION_FRAME_BYTES];
        let mut receiver = Receiver::new(&mut frame);
        let mut bytes = [0; 512];
        // Of the board, once it has said so.
        let mut board = String::new();
        loop {
            let terms = &self.terms;
            if self.companion.runtime.revision() != terms.revision
                || *lock(&self.companion.supervised.temperature) != self.temperature
            {
                let terms = self.companion.runtime.terms();
                self.take_terms(terms);
            }
            if let Err(error) = self.send_what_is_due(port) {
                return error;
            }
            self.tell(&board);
            match port.read(&mut bytes, READ_TIME) {
                Ok(bytes) => {
                    for byte in bytes {
                        match receiver.push(*byte) {
                            Some(Received::Message(stuffed)) => self.receive(stuffed, &mut board),
                            Some(Received::TooLong { .. }) => self.link.bad(),
                            None => {}
                        }
                    }
                }
                Err(error) => return error,
            }
            self.link.tick(self.now());
            self.companion.runtime.advise(self.link.advice(self.now()));
        }
    }

    fn take_terms(&mut self, terms: Terms) {
        self.temperature = *lock(&self.companion.supervised.temperature);
        self.link.set_terms(terms.revision, terms.profile.len() as u8, self.now());
        self.terms = terms;
    }

    fn send_what_is_due(&mut self, port: &Port) -> io::Result<()> {
        while let Some(due) = self.link.due(self.now()) {
            match due {
                Due::Hello { session } => self.send_hello(port, session)?,
                Due::Telemetry { session } => self.send_telemetry(port, session)?,
            }
        }
        Ok(())
    }

    fn send_hello(&self, port: &Port, session: u32) -> io::Result<()> {
        let Terms { profile, limits, .. } = &self.terms;
        let rungs: Vec<u8> = profile
            .iter()
            .flat_map(|rung| {
                RungCost { latency: rung.latency, energy: rung.energy, fidelity: rung.fidelity }.to_bytes()
            })
            .collect();
        let temperature = self.temperature.or(limits.temperature).map(|limits| SupervisedTemperatures {
            target: limits.target,
            passive: limits.passive,
            critical: limits.critical,
        });
        let limits = SupervisedLimits { temperature, power: limits.power, minimum_fidelity: limits.minimum_fidelity };
        let idle = self.companion.machine.idle_power().unwrap_or(Power::from_milliwatts(0));
        // The governor was made for as many rungs.
        let rungs = RungCosts::from_bytes(&rungs).unwrap_or_default();
        send(port, &CompanionRequest::hello(session, idle, limits, rungs))
    }

    fn send_telemetry(&self, port: &Port, session: u32) -> io::Result<()> {
        let telemetry = |mean: InferenceSample, inferences| {
            let InferenceSample { rung, latency } = mean;
            send(port, &CompanionRequest::Telemetry { session, rung, inferences, latency })
        };
        let mut ran = self.companion.supervised.tally.take().peekable();
        if ran.peek().is_none() {
            let rung = self.companion.runtime.decision().rung;
            return telemetry(InferenceSample { rung, latency: TimeSpan::from_nanoseconds(0) }, 0);
        }
        ran.try_for_each(|(mean, count)| telemetry(mean, count))
    }

    fn receive(&mut self, stuffed: &mut [u8], board: &mut String) {
        let now = self.now();
        let Ok(response) = unstuff(stuffed).and_then(Response::read) else { return self.link.bad() };
        match response {
            Response::Companion(envelope) => match CompanionReport::read(envelope) {
                Ok(report) => {
                    match &report {
                        CompanionReport::Accepted { board: name, .. } => *board = (*name).to_owned(),
                        CompanionReport::Refused { text, .. } => {
                            anstream::eprintln!("supervisor: it refuses: {text}");
                        }
                        _ => {}
                    }
                    self.link.receive(&report, now);
                }
                Err(_) => self.link.bad(),
            },
            Response::Error { kind: ErrorKind::Version, text } => {
                anstream::eprintln!("supervisor: it refuses: {text}");
                self.link.refused(now);
            }
            // What firmware says that does not supervise, or not yet.
            _ => {}
        }
    }

    /// Tells metrics, flight record and log where the link stands.
    fn tell(&mut self, board: &str) {
        let state = self.link.state();
        self.companion.watcher.supervisor(state, self.link.counts(), self.link.measured());
        let (from, to) = (std::mem::replace(&mut self.told, state), state);
        if from == to {
            return;
        }
        if to == LinkState::Closed {
            self.companion.runtime.advise(None);
        }
        match (from, to) {
            (_, LinkState::InUse) => anstream::eprintln!("supervisor: {board} decides too"),
            (LinkState::InUse, LinkState::Silent | LinkState::Refused) => {
                anstream::eprintln!("supervisor: {}; the own governor decides alone", to.name());
            }
            // A port that is gone is told with its reason.
            _ => {}
        }
    }
}

/// Sends a message after a 0, which ends whatever the line was in the middle of.
fn send(port: &Port, request: &CompanionRequest<'_>) -> io::Result<()> {
    let mut message = [0; MAX_COMPANION_REQUEST_BYTES];
    let mut frame = [0; 1 + MAX_COMPANION_FRAME_BYTES];
    let stuffed = Envelope::seal(request, &mut message)
        .and_then(|envelope| stuff(&SerialRequest::Companion(envelope), &mut frame[1..]).map(<[u8]>::len));
    match stuffed {
        Ok(length) => port.write(&frame[..=length]),
        // The buffers are for the longest message.
        Err(error) => Err(io::Error::other(error)),
    }
}
