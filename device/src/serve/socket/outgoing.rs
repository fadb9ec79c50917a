//! Writing responses to a client that may not take them.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use headroom_shared::wire::{
    ErrorKind, MAX_RESPONSE_BYTES, Outputs, RefusalReason, Response, ServedModel, Values, WireError, encode,
    encoded_length,
};

use crate::bundle::Bundle;
use crate::governor::{Decider, Decision};
use crate::reading::SensorReading;
use crate::runtime::{Answer, Refusal, Reply};
use crate::serve::unanswered::Unanswered;

/// How long a client may leave the kernel's buffer full.
const WRITE_TIME: Duration = Duration::from_secs(5);

/// A response on its way to the writer.
pub(super) enum Outgoing {
    Hello(ServedModel),
    Answer {
        id: u64,
        outputs: Outputs,
        answer: Answer,
    },
    Status {
        id: u64,
        model: ServedModel,
        decision: Decision,
        sensors: Option<SensorReading>,
        waiting: usize,
    },
    /// What came of a request that is no frame.
    Report {
        id: u64,
        outcome: Result<String, String>,
    },
    /// The last one.
    Error {
        kind: ErrorKind,
        text: String,
    },
}

/// Writes what comes until nobody sends any more. A client that takes nothing is cut off.
pub(super) fn write(stream: &UnixStream, responses: &Receiver<Outgoing>, unanswered: &Unanswered) {
    let mut buffer = Vec::new();
    let mut bytes = Vec::new();
    let mut writing = stream.set_write_timeout(Some(WRITE_TIME)).is_ok();
    for outgoing in responses {
        if writing {
            writing = match outgoing.encode(&mut buffer, &mut bytes) {
                Ok(()) => (&*stream).write_all(&buffer).is_ok(),
                // Of a model with more outputs than a response holds.
                Err(_) => false,
            };
            if !writing {
                // The reader ends, and what is still on its way is taken without being written.
                let _ = stream.shutdown(Shutdown::Both);
                unanswered.abandon();
            }
        }
        if outgoing.answers_a_request() {
            unanswered.end();
        }
    }
}

/// Tells a client that it is not served; if it does not take that, it is not told.
pub(super) fn send_error(stream: &UnixStream, kind: ErrorKind, text: &str) {
    let mut buffer = Vec::new();
    let error = Outgoing::Error { kind, text: text.into() };
    if stream.set_write_timeout(Some(WRITE_TIME)).is_ok() && error.encode(&mut buffer, &mut Vec::new()).is_ok() {
        let _ = (&*stream).write_all(&buffer);
    }
}

impl Outgoing {
    fn answers_a_request(&self) -> bool {
        match self {
            Self::Hello(_) | Self::Error { .. } => false,
            Self::Answer { .. } | Self::Status { .. } | Self::Report { .. } => true,
        }
    }

    /// Into `buffer`; `bytes` is for values on the way.
    fn encode(&self, buffer: &mut Vec<u8>, bytes: &mut Vec<u8>) -> Result<(), WireError> {
        let binding;
        let response = match self {
            Self::Hello(model) => Response::Hello { version: headroom_shared::wire::VERSION, model: *model },
            Self::Answer { id, outputs, answer: Ok(reply) } => result(*id, *outputs, reply, bytes)?,
            Self::Answer { id, answer: Err(refusal), .. } => Response::Refused { id: *id, reason: reason(refusal) },
            Self::Status { id, model, decision, sensors, waiting } => {
                binding = match decision.decider {
                    Decider::Own => decision.binding.name().to_owned(),
                    Decider::Supervisor => format!("supervisor: {}", decision.binding.name()),
                };
                Response::Status {
                    id: *id,
                    model: *model,
                    rung: decision.rung,
                    binding: &binding,
                    mode: decision.mode.name(),
                    slowdown: decision.slowdown.mean,
                    pace: decision.pace,
                    temperature: sensors.and_then(|sensors| sensors.temperature.value()),
                    power: sensors.and_then(|sensors| sensors.power.value()),
                    waiting: u32::try_from(*waiting).unwrap_or(u32::MAX),
                }
            }
            Self::Report { id, outcome: Ok(text) } => Response::Done { id: *id, text },
            Self::Report { id, outcome: Err(text) } => Response::Failed { id: *id, text },
            Self::Error { kind, text } => Response::Error { kind: *kind, text },
        };
        buffer.resize(encoded_length(&response, MAX_RESPONSE_BYTES)?, 0);
        encode(&response, MAX_RESPONSE_BYTES, buffer).map(drop)
    }
}

fn result<'a>(id: u64, outputs: Outputs, reply: &Reply, bytes: &'a mut Vec<u8>) -> Result<Response<'a>, WireError> {
    let embedding: &[f32] = if outputs == Outputs::Logits { &[] } else { &reply.embedding };
    let logits = if outputs == Outputs::Embedding { None } else { reply.logits.as_deref() };
    bytes.clear();
    bytes.extend(embedding.iter().chain(logits.unwrap_or_default()).flat_map(|value| value.to_le_bytes()));
    let (embedding, logits) = bytes.split_at(embedding.len() * 4);
    Ok(Response::Result {
        id,
        bundle: *reply.bundle.digest(),
        rung: reply.rung,
        fidelity: reply.fidelity,
        macs: reply.macs,
        latency: reply.latency,
        queued: reply.queued,
        embedding: Values::from_bytes(embedding)?,
        logits: Values::from_bytes(logits)?,
    })
}

fn reason(refusal: &Refusal) -> RefusalReason {
    match refusal {
        Refusal::Dropped => RefusalReason::Dropped,
        Refusal::QueueFull => RefusalReason::QueueFull,
        Refusal::ShuttingDown => RefusalReason::ShuttingDown,
        Refusal::Preprocess(_) => RefusalReason::Image,
        Refusal::Engine(_) | Refusal::Lost => RefusalReason::Failed,
    }
}

/// What a client is told of a bundle.
pub(super) fn served_model(bundle: &Bundle) -> ServedModel {
    let image = &bundle.description().image;
    // Larger sizes than 32 bits hold are refused with the bundle.
    let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
    ServedModel {
        bundle: *bundle.digest(),
        width: size(image.width),
        height: size(image.height),
        embed_dim: size(bundle.vit().embed_dim()),
        classes: size(bundle.vit().classes().unwrap_or(0)),
        rungs: bundle.structure_map().rungs().len() as u8,
    }
}
