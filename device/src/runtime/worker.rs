//! A worker: one inference after another, from the queue to the answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use headroom_shared::TimeSpan;

use super::model::{Buffers, Model};
use super::request::{Answer, Frame, Job, Reply};
use super::shared::Shared;
use crate::reading::InferenceSample;

/// Runs until the queue is closed. `number` is the worker's own.
///
/// A panic is a defect, and takes its own request along only: that is answered by being dropped, and the worker goes on
/// with new buffers.
pub(super) fn work(shared: &Shared, number: usize) {
    while catch_unwind(AssertUnwindSafe(|| work_through(shared, number))).is_err() {
        shared.ends(number);
    }
}

fn work_through(shared: &Shared, number: usize) {
    let mut buffers = None;
    while let Some(Job { frame, accepted, responder }) = shared.queue.take() {
        shared.begins(number);
        // Held for this inference only: a replaced bundle is freed with its last one.
        let model = shared.model();
        let answer = infer(&model, &mut buffers, &frame, accepted);
        shared.ends(number);
        // First the governor, then the answer: whoever sends the next frame on an answer gets the rung that follows.
        if let Ok(reply) = &answer {
            shared.learn(model.generation, InferenceSample { rung: reply.rung, latency: reply.latency });
        }
        shared.answer(responder, answer);
    }
}

fn infer(model: &Model, buffers: &mut Option<Buffers>, frame: &Frame, accepted: Instant) -> Answer {
    let Buffers { workspace, .. } = match buffers {
        Some(own) if own.generation == model.generation => own,
        other => other.insert(model.buffers()),
    };
    match frame {
        Frame::Pixels(pixels) => workspace.set_pixels(pixels)?,
        #[cfg(feature = "images")]
        Frame::Rgb(image) => workspace.set_image(image)?,
    }
    // Read once: whatever is published meanwhile, this inference runs this rung.
    let rung = model.active.get();
    let start = Instant::now();
    let output = model.engine.infer(workspace, rung)?;
    let latency = TimeSpan::from(start.elapsed());
    let (macs, fidelity) = model.costs[rung];
    Ok(Reply {
        bundle: model.engine.bundle().clone(),
        rung: rung as u8,
        macs,
        fidelity,
        latency,
        queued: (start - accepted).into(),
        embedding: output.embedding.to_vec(),
        logits: output.logits.map(<[f32]>::to_vec),
    })
}
