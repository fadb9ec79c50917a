//! Requests to a runtime: frames go in, answers come out, in whatever order they end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use super::pointer::{self, Output, Outputs};
use super::runtime::HeadroomRuntime;
use super::session::rgb_image;
use super::status::{Failure, HeadroomStatus, guarded};
use crate::runtime::{Answer, Client, Frame, Refusal, WhenFull};

/// Somebody who sends requests, such as one camera. Several threads may submit; one at a time receives.
pub struct HeadroomClient {
    client: Client,
    sender: Sender<(u64, Answer)>,
    inbox: Mutex<Inbox>,
    /// Requests whose answers were not received yet.
    open: AtomicUsize,
}

struct Inbox {
    receiver: Receiver<(u64, Answer)>,
    /// Came out for a receiver whose buffers did not fit.
    kept: Option<(u64, Answer)>,
}

/// Newest wins, for cameras: the oldest waiting request of the client is answered `HEADROOM_STATUS_DROPPED`.
pub const HEADROOM_WHEN_FULL_DROP_OLDEST: u32 = 0;
/// The new request is answered `HEADROOM_STATUS_QUEUE_FULL`.
pub const HEADROOM_WHEN_FULL_REFUSE: u32 = 1;
/// Submitting waits for room.
pub const HEADROOM_WHEN_FULL_WAIT: u32 = 2;

/// Answers that may wait to be received; a client that never receives must not fill the memory.
const MOST_OPEN: usize = 1024;

/// What is known about an inference besides its outputs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HeadroomReply {
    /// The number that the request was submitted with.
    pub request: u64,
    /// The rung that ran, from the first block to the last.
    pub rung: u32,
    /// Of the rung to the dense model, as measured by the host.
    pub fidelity: f32,
    pub macs: u64,
    /// From the start of the computation to its end, without preprocessing.
    pub latency_nanoseconds: u64,
    /// From the acceptance of the request to the start of the computation.
    pub queued_nanoseconds: u64,
}

/// Makes a client of a runtime. `when_full` is one of `HEADROOM_WHEN_FULL_*`; `most_waiting` requests of the client
/// may wait at a time (0 is one).
///
/// # Safety
/// `runtime` is null or running; `client` is null or room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_client_new(
    runtime: *const HeadroomRuntime,
    when_full: u32,
    most_waiting: u32,
    client: *mut *mut HeadroomClient,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (output, runtime) = unsafe { (Output::new(client, "client")?, pointer::reference(runtime, "runtime")?) };
        let when_full = match when_full {
            HEADROOM_WHEN_FULL_DROP_OLDEST => WhenFull::DropOldest,
            HEADROOM_WHEN_FULL_REFUSE => WhenFull::Refuse,
            HEADROOM_WHEN_FULL_WAIT => WhenFull::Wait,
            found => {
                let message = format!("`when_full` is {found}, expected 0 to 2");
                return Err(Failure::new(HeadroomStatus::InvalidArgument, message));
            }
        };
        let client = runtime.runtime.client(when_full).with_most_waiting(most_waiting as usize);
        let (sender, receiver) = channel();
        let inbox = Mutex::new(Inbox { receiver, kept: None });
        output.write(Box::into_raw(Box::new(HeadroomClient { client, sender, inbox, open: AtomicUsize::new(0) })));
        Ok(())
    })
}

/// Closes a client, whose waiting requests are refused; null is none. Safe before and after its runtime has stopped.
///
/// # Safety
/// `client` is null, or a client that was not closed and that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_client_close(client: *mut HeadroomClient) {
    guarded(|| {
        // SAFETY: the promise of this function's own caller.
        unsafe { pointer::close(client) };
        Ok(())
    });
}

/// Sends one image of any size: rows from top to bottom without gaps, three bytes a pixel, red first. It is copied.
/// `request` is any number; `headroom_client_receive` gives it back with the answer, which every accepted request gets.
///
/// # Safety
/// `client` is null or open; `rgb` is null or has `byte_count` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_client_submit_rgb8(
    client: *const HeadroomClient,
    request: u64,
    rgb: *const u8,
    byte_count: usize,
    width: u32,
    height: u32,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (client, image) =
            unsafe { (pointer::reference(client, "client")?, rgb_image(rgb, byte_count, width, height)?) };
        client.submit(request, Frame::Rgb(image))
    })
}

/// Sends one input of the model: normalised values, `[channels, height, width]`. It is copied.
///
/// # Safety
/// `client` is null or open; `pixels` is null or has `pixel_count` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_client_submit_pixels(
    client: *const HeadroomClient,
    request: u64,
    pixels: *const f32,
    pixel_count: usize,
) -> HeadroomStatus {
    guarded(|| {
        /// Values of an input at most: what no model exceeds and every slice may have.
        const MOST: usize = 1 << 30;
        // SAFETY: the promise of this function's own caller.
        let client = unsafe { pointer::reference(client, "client")? };
        // Whether the number is the model's is seen when it runs: the model may have changed by then.
        pointer::sized(pixel_count, pixel_count.min(MOST), "pixels")?;
        // SAFETY: the promise of this function's own caller.
        let pixels = unsafe { pointer::values(pixels, pixel_count, pixel_count, "pixels")? };
        client.submit(request, Frame::Pixels(pixels.to_vec()))
    })
}

/// Waits up to `timeout_milliseconds` for the next answer and writes it.
///
/// `embedding` and `logits` have the sizes that `headroom_runtime_sizes` gives; either may be null with size 0. With
/// another size `HEADROOM_STATUS_WRONG_SIZE` is returned and the answer kept, as happens once after a bundle of other
/// sizes was put in place. A request that got no result returns the status that says why, with its number in
/// `reply->request`. Nothing else is written then.
///
/// # Safety
/// `client` is null or open; `reply` is null or room for one; the buffers are null or have the sizes that are given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_client_receive(
    client: *const HeadroomClient,
    timeout_milliseconds: u64,
    reply: *mut HeadroomReply,
    embedding: *mut f32,
    embedding_size: usize,
    logits: *mut f32,
    logits_size: usize,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (output, client) = unsafe { (Output::new(reply, "reply")?, pointer::reference(client, "client")?) };
        let mut inbox = match client.inbox.try_lock() {
            Ok(inbox) => inbox,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(HeadroomStatus::Busy, "another thread is receiving from this client"));
            }
        };
        let (request, answer) = inbox.next(Duration::from_millis(timeout_milliseconds))?;
        match answer {
            Ok(computed) => {
                let logits_found = computed.logits.as_deref().unwrap_or_default();
                // SAFETY: the promises of this function's own caller.
                let rooms = unsafe {
                    Outputs::new(embedding, embedding_size, computed.embedding.len(), "embedding")
                        .and_then(|room| Ok((room, Outputs::new(logits, logits_size, logits_found.len(), "logits")?)))
                };
                let (embedding, logits) = match rooms {
                    Ok(rooms) => rooms,
                    Err(failure) => {
                        inbox.kept = Some((request, Ok(computed)));
                        return Err(failure);
                    }
                };
                embedding.write(&computed.embedding);
                logits.write(logits_found);
                output.write(HeadroomReply {
                    request,
                    rung: u32::from(computed.rung),
                    fidelity: computed.fidelity,
                    macs: computed.macs,
                    latency_nanoseconds: computed.latency.as_nanoseconds(),
                    queued_nanoseconds: computed.queued.as_nanoseconds(),
                });
                client.open.fetch_sub(1, Ordering::Relaxed);
                Ok(())
            }
            Err(refusal) => {
                output.write(HeadroomReply { request, ..HeadroomReply::default() });
                client.open.fetch_sub(1, Ordering::Relaxed);
                Err(Failure::of(status(&refusal), &refusal))
            }
        }
    })
}

impl HeadroomClient {
    fn submit(&self, request: u64, frame: Frame) -> Result<(), Failure> {
        let room =
            self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < MOST_OPEN).then_some(open + 1));
        if room.is_err() {
            let message = format!("{MOST_OPEN} answers wait to be received");
            return Err(Failure::new(HeadroomStatus::QueueFull, message));
        }
        let sender = self.sender.clone();
        self.client.submit(frame, move |answer| {
            // Nobody receives from a client that was closed.
            let _ = sender.send((request, answer));
        });
        Ok(())
    }
}

impl Inbox {
    fn next(&mut self, timeout: Duration) -> Result<(u64, Answer), Failure> {
        if let Some(kept) = self.kept.take() {
            return Ok(kept);
        }
        self.receiver.recv_timeout(timeout).map_err(|error| match error {
            RecvTimeoutError::Timeout => Failure::new(HeadroomStatus::TimedOut, "no answer in time"),
            // The client holds a sender itself.
            RecvTimeoutError::Disconnected => Failure::new(HeadroomStatus::Internal, "the inbox has lost its sender"),
        })
    }
}

fn status(refusal: &Refusal) -> HeadroomStatus {
    match refusal {
        Refusal::Dropped => HeadroomStatus::Dropped,
        Refusal::QueueFull => HeadroomStatus::QueueFull,
        Refusal::ShuttingDown => HeadroomStatus::Stopped,
        Refusal::Engine(_) | Refusal::Preprocess(_) => HeadroomStatus::Inference,
        Refusal::Lost => HeadroomStatus::Internal,
    }
}
