//! No bytes make the readers of companion messages panic, and what they accept is written, read and written again as
//! the same bytes.
//!
//! Every input is read as a frame of the line, and as a message whose checksum is right.
#![no_main]

use headroom_shared::wire::companion::MAX_COMPANION_FRAME_BYTES;
use headroom_shared::wire::serial::{SerialRequest, stuff, unstuff};
use headroom_shared::wire::{CompanionReport, CompanionRequest, Envelope, Response};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::ser::SerializeTuple;

fuzz_target!(|bytes: &[u8]| {
    let _ = SerialRequest::read(&mut bytes.to_vec());
    let mut frame = bytes.to_vec();
    if let Ok(Response::Companion(envelope)) = unstuff(&mut frame).and_then(Response::read) {
        let _ = CompanionReport::read(envelope);
    }

    let mut buffer = vec![0; bytes.len()];
    let envelope = Envelope::seal(&Raw(bytes), &mut buffer).expect("the buffer is as long");
    if let Ok(request) = CompanionRequest::read(envelope) {
        let mut message = [0; MAX_COMPANION_FRAME_BYTES];
        let Ok(sealed) = Envelope::seal(&request, &mut message) else { return };
        assert_eq!(CompanionRequest::read(sealed).map(|again| written(&again)), Ok(written(&request)));
        let mut frame = vec![0; MAX_COMPANION_FRAME_BYTES];
        let length = stuff(&SerialRequest::Companion(sealed), &mut frame).expect("a frame has room").len();
        assert_eq!(SerialRequest::read(&mut frame[..length - 1]), Ok(SerialRequest::Companion(sealed)));
    }
    if let Ok(report) = CompanionReport::read(envelope) {
        let mut message = vec![0; bytes.len() + 64];
        let sealed = Envelope::seal(&report, &mut message).expect("a message is not longer when it is written again");
        assert_eq!(CompanionReport::read(sealed).map(|again| written(&again)), Ok(written(&report)));
    }
});

/// NaN is not equal to itself; its bytes are.
fn written(message: &impl Serialize) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 16];
    let length = headroom_shared::wire::encode(message, u32::MAX, &mut buffer).expect("inputs are short");
    buffer.truncate(length);
    buffer
}

/// Bytes as they are.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}
