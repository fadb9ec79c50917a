//! Answers each message; the loop.

use core::fmt::Write;

use headroom_device::reading::SensorReading;
use headroom_shared::wire::companion::MAX_COMPANION_REPORT_BYTES;
use headroom_shared::wire::serial::{self, Received, Receiver, SerialRequest};
use headroom_shared::wire::{
    CompanionReport, CompanionRequest, Envelope, ErrorKind, Outputs, RefusalReason, Request, Response, VERSION, Values,
    WireError,
};
use headroom_shared::{Temperature, TimeSpan};
use static_cell::ConstStaticCell;

use crate::board::Board;
use crate::serving::{Refusal, Sentence, Serving};
use crate::supervision::Supervision;

/// Between two passes over the sensors.
const SENSING_PERIOD: TimeSpan = TimeSpan::from_nanoseconds(1_000_000_000);

/// The longest message that can be received, and sent.
static RECEIVED: ConstStaticCell<[u8; 32 * 1024]> = ConstStaticCell::new([0; 32 * 1024]);
static SENT: ConstStaticCell<[u8; 16 * 1024]> = ConstStaticCell::new([0; 16 * 1024]);
/// Embedding and logits of an inference.
static OUTPUTS: ConstStaticCell<[f32; 3 * 1024]> = ConstStaticCell::new([0.0; 3 * 1024]);

/// Serves for ever: the image in the flash `region`, with the engine's scratch memory `arena`. Nothing else is reserved
/// but the buffers above and the stack.
///
/// # Panics
/// When it is called again.
pub fn run<B: Board>(mut board: B, region: &[u8], arena: &mut [u8]) -> ! {
    let mut receiver = Receiver::new(RECEIVED.take());
    let most = receiver.capacity();
    let serving = Serving::open::<B>(region, arena, most);
    let decided = board.now();
    let (sent, outputs) = (SENT.take(), OUTPUTS.take());
    let mut application = Application { serving, supervision: None, sent, outputs, next_start: ZERO };
    application.greet(&mut board);
    application.tell_first_decision(&mut board, decided);
    let mut next_pass = board.now();
    loop {
        board.feed_watchdog();
        let now = board.now();
        if now >= next_pass {
            next_pass = later(now, SENSING_PERIOD);
            application.sense(&mut board);
            application.tell_decision(&mut board);
        }
        let Some(byte) = board.read() else { continue };
        match receiver.push(byte) {
            Some(Received::Message(stuffed)) => application.answer(&mut board, stuffed),
            Some(Received::TooLong { bytes }) => {
                let mut text = Sentence::new();
                let _ = write!(text, "a message of {bytes} bytes, at most {most} are taken");
                let response = Response::Error { kind: ErrorKind::Malformed, text: &text };
                send(&mut board, application.sent, &response);
            }
            None => {}
        }
    }
}

const ZERO: TimeSpan = TimeSpan::from_nanoseconds(0);

fn later(time: TimeSpan, by: TimeSpan) -> TimeSpan {
    TimeSpan::from_nanoseconds(time.as_nanoseconds().saturating_add(by.as_nanoseconds()))
}

struct Application<'a> {
    serving: Result<Serving<'a>, Refusal>,
    /// Of another board, while there is one that wants it.
    supervision: Option<Supervision>,
    sent: &'a mut [u8],
    outputs: &'a mut [f32],
    /// The earliest moment at which the next inference may start.
    next_start: TimeSpan,
}

impl Application<'_> {
    fn greet<B: Board>(&mut self, board: &mut B) {
        let refusal;
        let response = match &self.serving {
            Ok(serving) => Response::Hello { version: VERSION, model: serving.model() },
            Err(error) => {
                refusal = error.sentence();
                Response::Failed { id: 0, text: &refusal }
            }
        };
        send(board, self.sent, &response);
    }

    /// How long after the start of the clock the first decision was there. What the line takes is not part of it.
    fn tell_first_decision<B: Board>(&mut self, board: &mut B, decided: TimeSpan) {
        if self.serving.is_ok() {
            let mut text = Sentence::new();
            let _ = write!(text, "first decision after {decided:.3}");
            send(board, self.sent, &Response::Done { id: 0, text: &text });
        }
    }

    fn sense<B: Board>(&mut self, board: &mut B) {
        let (sensors, now) = (sensors(board), board.now());
        if let Ok(serving) = &mut self.serving {
            serving.sense(sensors.temperature, now);
        }
        if let Some(supervision) = &mut self.supervision {
            supervision.sense(sensors, now);
            if supervision.is_silent(now) {
                self.supervision = None;
            }
        }
    }

    /// What the governor of the moment says: unasked, once a second.
    fn tell_decision<B: Board>(&mut self, board: &mut B) {
        match &mut self.supervision {
            Some(supervision) => report(board, self.sent, &supervision.report()),
            None => self.tell_status(board, 0),
        }
    }

    fn tell_status<B: Board>(&mut self, board: &mut B, id: u64) {
        let serving = match &self.serving {
            Ok(serving) => serving,
            Err(refusal) => {
                return send(board, self.sent, &Response::Failed { id, text: &refusal.sentence() });
            }
        };
        let decision = &serving.decision;
        let response = Response::Status {
            id,
            model: serving.model(),
            rung: serving.rung(),
            binding: decision.binding.name(),
            mode: decision.mode.name(),
            slowdown: serving.slowdown(),
            pace: serving.pace(),
            temperature: serving.temperature.value(),
            power: None,
            waiting: 0,
        };
        send(board, self.sent, &response);
    }

    fn answer<B: Board>(&mut self, board: &mut B, stuffed: &mut [u8]) {
        let request = match SerialRequest::read(stuffed) {
            Ok(request) => request,
            Err(error) => return self.tell_error(board, error),
        };
        match request {
            SerialRequest::Wire(Request::Infer { id, width, height, outputs, rgb }) => {
                self.infer(board, id, (width, height), outputs, rgb);
            }
            SerialRequest::Wire(Request::Status { id }) => self.tell_status(board, id),
            SerialRequest::Hold { id, rung } => {
                self.change(board, id, |serving| serving.hold(rung).ok_or("the rung is not stored"));
            }
            SerialRequest::Limits { id, deadline, power, minimum_fidelity } => {
                // There is no meter, and a cap that nothing watches is no promise.
                let change = |serving: &mut Serving<'_>| {
                    if power.is_some() {
                        return Err("this board cannot measure power");
                    }
                    serving.limit(deadline, None, minimum_fidelity).map_err(|_| "the limits make no sense together")
                };
                self.change(board, id, change);
            }
            SerialRequest::Temperature { id, temperature } => self.take_temperature(board, id, temperature),
            SerialRequest::Companion(envelope) => match CompanionRequest::read(envelope) {
                Ok(request) => self.supervise(board, &request),
                Err(error) => self.tell_error(board, error),
            },
            _ => {
                let response = Response::Error { kind: ErrorKind::Malformed, text: "no request for firmware" };
                send(board, self.sent, &response);
            }
        }
    }

    fn tell_error<B: Board>(&mut self, board: &mut B, error: WireError) {
        let kind = if matches!(error, WireError::Version { .. }) { ErrorKind::Version } else { ErrorKind::Malformed };
        let mut text = Sentence::new();
        let _ = write!(text, "{error}");
        send(board, self.sent, &Response::Error { kind, text: &text });
    }

    fn supervise<B: Board>(&mut self, board: &mut B, request: &CompanionRequest<'_>) {
        let now = board.now();
        match request {
            CompanionRequest::Hello { session, idle, limits, rungs, .. } => {
                let hello = (*session, *idle, limits, rungs);
                match Supervision::begin(hello, self.supervision.as_ref(), sensors(board), now) {
                    Ok(supervision) => {
                        report(board, self.sent, &supervision.accepted(B::NAME));
                        self.supervision = Some(supervision);
                        self.tell_decision(board);
                    }
                    Err(reason) => {
                        let text = &reason.sentence();
                        report(board, self.sent, &CompanionReport::Refused { session: *session, text });
                    }
                }
            }
            CompanionRequest::Telemetry { session, .. } => {
                let taken = self.supervision.as_mut().is_some_and(|supervision| supervision.take(request, now));
                if !taken {
                    report(board, self.sent, &CompanionReport::NoSession { session: *session });
                }
            }
            // Requests that a later version adds are not decoded by this one.
            _ => {}
        }
    }

    /// Changes what is served and tells whether it was done.
    fn change<B: Board>(
        &mut self,
        board: &mut B,
        id: u64,
        change: impl FnOnce(&mut Serving<'_>) -> Result<(), &'static str>,
    ) {
        let refusal;
        let response = match &mut self.serving {
            Ok(serving) => match change(serving) {
                Ok(()) => Response::Done { id, text: "" },
                Err(text) => Response::Failed { id, text },
            },
            Err(error) => {
                refusal = error.sentence();
                Response::Failed { id, text: &refusal }
            }
        };
        send(board, self.sent, &response);
    }

    /// The governor decides at once, so that a script need not wait for the next pass.
    fn take_temperature<B: Board>(&mut self, board: &mut B, id: u64, temperature: Temperature) {
        if !board.set_temperature(temperature) {
            let text = "this board has a thermometer of its own";
            return send(board, self.sent, &Response::Failed { id, text });
        }
        self.sense(board);
        self.tell_status(board, id);
    }

    fn infer<B: Board>(&mut self, board: &mut B, id: u64, (width, height): (u32, u32), wanted: Outputs, rgb: &[u8]) {
        let serving = match &mut self.serving {
            Ok(serving) => serving,
            Err(refusal) => {
                return send(board, self.sent, &Response::Failed { id, text: &refusal.sentence() });
            }
        };
        let model = serving.model();
        let (embedding, logits) = serving.outputs();
        if (width, height) != (model.width, model.height) {
            return send(board, self.sent, &Response::Refused { id, reason: RefusalReason::Image });
        }
        let Some(outputs) = self.outputs.get_mut(..embedding + logits) else {
            return send(board, self.sent, &Response::Refused { id, reason: RefusalReason::Failed });
        };
        let (embedding, logits) = outputs.split_at_mut(embedding);
        // What is not wanted has no room, and is not computed.
        let embedding = if wanted == Outputs::Logits { &mut [] } else { embedding };
        let logits = if wanted == Outputs::Embedding { &mut [] } else { logits };
        let arrival = board.now();
        // The pause in which the board cools down.
        while board.now() < self.next_start {
            board.feed_watchdog();
        }
        let start = board.now();
        let inference = serving.infer(board, rgb, embedding, logits);
        self.next_start = later(start, serving.pace());
        let Ok(inference) = inference else {
            return send(board, self.sent, &Response::Refused { id, reason: RefusalReason::Failed });
        };
        let response = Response::Result {
            id,
            bundle: model.bundle,
            rung: inference.rung,
            fidelity: inference.fidelity,
            macs: inference.macs,
            latency: inference.latency,
            queued: TimeSpan::from_nanoseconds(start.as_nanoseconds() - arrival.as_nanoseconds()),
            embedding: values(embedding),
            logits: values(logits),
        };
        send(board, self.sent, &response);
    }
}

/// A pass over the sensors of the board.
fn sensors<B: Board>(board: &mut B) -> SensorReading {
    SensorReading { temperature: board.temperature(), power: board.power(), ..SensorReading::ABSENT }
}

/// Sends a message of companion mode.
fn report<B: Board>(board: &mut B, buffer: &mut [u8], message: &CompanionReport<'_>) {
    let mut bytes = [0; MAX_COMPANION_REPORT_BYTES];
    // The longest sentence fits.
    if let Ok(envelope) = Envelope::seal(message, &mut bytes) {
        send(board, buffer, &Response::Companion(envelope));
    }
}

/// The bytes of f32 values as they travel: little-endian, as all our targets are.
fn values(values: &[f32]) -> Values<'_> {
    const { assert!(cfg!(target_endian = "little"), "values travel as they lie in memory") };
    // Whole values have whole bytes.
    Values::from_bytes(bytemuck::cast_slice(values)).unwrap_or_default()
}

/// Sends a response; one that is too long for the buffer becomes an error that says so.
fn send<B: Board>(board: &mut B, buffer: &mut [u8], response: &Response<'_>) {
    if let Ok(bytes) = serial::stuff(response, buffer) {
        return board.write(bytes);
    }
    let too_long = Response::Error { kind: ErrorKind::Malformed, text: "the response is too long for this firmware" };
    if let Ok(bytes) = serial::stuff(&too_long, buffer) {
        board.write(bytes);
    }
}
