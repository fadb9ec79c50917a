//! Companion messages: golden bytes, what is refused, and what noise does to them.

use headroom_shared::wire::companion::{
    CompanionReport, CompanionRequest, Envelope, MAX_COMPANION_FRAME_BYTES, MAX_COMPANION_REPORT_BYTES,
    MAX_COMPANION_REQUEST_BYTES, RungCost, RungCosts, SupervisedLimits, SupervisedTemperatures, VERSION,
};
use headroom_shared::wire::serial::{Received, Receiver, stuff, unstuff};
use headroom_shared::wire::{Response, SerialRequest, WireError};
use headroom_shared::{Energy, MAX_RUNGS, Power, Temperature, TimeSpan};
use proptest::collection::vec;
use proptest::prelude::*;

#[rustfmt::skip]
const TELEMETRY: &[u8] = &[
    0x04,
    0xee, 0x44, 0xeb, 0xa9,
    0x08,
    0x01, 0x07, 0x02, 0x1e, 0x80, 0xad, 0xe2, 0x04,
];

#[rustfmt::skip]
const DECISION: &[u8] = &[
    0x07,
    0x05, 0x7e, 0x46, 0x0b,
    0x22,
    0x01, 0x07, 0x01, 0x03,
    0x00,
    0x0b, b't', b'e', b'm', b'p', b'e', b'r', b'a', b't', b'u', b'r', b'e',
    0x06, b'n', b'o', b'r', b'm', b'a', b'l',
    0x80, 0xbc, 0xc1, 0x96, 0x0b,
    0x01, 0xe0, 0xe4, 0x09,
    0x00,
];

fn telemetry() -> CompanionRequest<'static> {
    let latency = TimeSpan::from_nanoseconds(10_000_000);
    CompanionRequest::Telemetry { session: 7, rung: 2, inferences: 30, latency }
}

fn decision() -> CompanionReport<'static> {
    CompanionReport::Decision {
        session: 7,
        number: 1,
        rung: 3,
        pace: TimeSpan::from_nanoseconds(0),
        binding: "temperature",
        mode: "normal",
        valid: TimeSpan::from_nanoseconds(3_000_000_000),
        temperature: Some(Temperature::from_millidegrees(80_176)),
        power: None,
    }
}

/// The bytes inside the frame, which this crate stuffs and the worked example shows without the stuffing.
fn request_bytes(request: &CompanionRequest<'_>) -> Vec<u8> {
    let mut message = [0; MAX_COMPANION_REQUEST_BYTES];
    let mut frame = [0; MAX_COMPANION_FRAME_BYTES];
    let envelope = Envelope::seal(request, &mut message).unwrap();
    let stuffed = stuff(&SerialRequest::Companion(envelope), &mut frame).unwrap();
    let mut stuffed = stuffed[..stuffed.len() - 1].to_vec();
    unstuff(&mut stuffed).unwrap().to_vec()
}

fn report_bytes(report: &CompanionReport<'_>) -> Vec<u8> {
    let mut message = [0; MAX_COMPANION_REPORT_BYTES];
    let mut frame = [0; MAX_COMPANION_FRAME_BYTES];
    let envelope = Envelope::seal(report, &mut message).unwrap();
    let stuffed = stuff(&Response::Companion(envelope), &mut frame).unwrap();
    let mut stuffed = stuffed[..stuffed.len() - 1].to_vec();
    unstuff(&mut stuffed).unwrap().to_vec()
}

fn read_request(stuffed: &mut [u8]) -> Result<CompanionRequest<'_>, WireError> {
    match SerialRequest::read(stuffed)? {
        SerialRequest::Companion(envelope) => CompanionRequest::read(envelope),
        _ => Err(WireError::Malformed),
    }
}

fn framed(request: &CompanionRequest<'_>) -> Vec<u8> {
    let mut message = [0; MAX_COMPANION_REQUEST_BYTES];
    let mut frame = [0; MAX_COMPANION_FRAME_BYTES];
    let envelope = Envelope::seal(request, &mut message).unwrap();
    stuff(&SerialRequest::Companion(envelope), &mut frame).unwrap().to_vec()
}

#[test]
fn messages_are_written_as_documented() {
    assert_eq!(request_bytes(&telemetry()), TELEMETRY);
    assert_eq!(report_bytes(&decision()), DECISION);
}

#[test]
fn documented_bytes_are_read() {
    let Ok(Response::Companion(envelope)) = Response::read(DECISION) else { panic!("a report") };
    assert_eq!(CompanionReport::read(envelope), Ok(decision()));
}

fn largest_hello(bytes: &[u8]) -> CompanionRequest<'_> {
    let celsius = Temperature::from_millidegrees(i32::MIN);
    let temperature = SupervisedTemperatures { target: celsius, passive: celsius, critical: celsius };
    let limits = SupervisedLimits {
        temperature: Some(temperature),
        power: Some(Power::from_milliwatts(u32::MAX)),
        minimum_fidelity: Some(0.5),
    };
    CompanionRequest::hello(u32::MAX, Power::from_milliwatts(u32::MAX), limits, RungCosts::from_bytes(bytes).unwrap())
}

#[test]
fn the_largest_hello_fits_its_buffers() {
    let rung = RungCost {
        latency: TimeSpan::from_nanoseconds(u64::MAX),
        energy: Energy::from_microjoules(u64::MAX),
        fidelity: 1.0,
    };
    let bytes = rung.to_bytes().repeat(MAX_RUNGS);
    let hello = largest_hello(&bytes);
    let mut frame = framed(&hello);
    frame.pop();
    let Ok(CompanionRequest::Hello { rungs, .. }) = read_request(&mut frame) else { panic!("a hello") };
    assert!(rungs.iter().eq(std::iter::repeat_n(rung, MAX_RUNGS)));
}

#[test]
fn a_hello_of_another_version_is_refused_with_both_versions_whatever_follows_it() {
    let bytes = [7; RungCost::BYTES];
    let mut message = [0; MAX_COMPANION_REQUEST_BYTES];
    let hello: &[u8] = postcard_of(&largest_hello(&bytes), &mut message);
    let mut other = hello[..13].to_vec();
    other[9] = 9;
    other.extend_from_slice(b"what only version 9 knows");
    let mut buffer = [0; 64];
    let envelope = Envelope::seal(&Raw(&other), &mut buffer).unwrap();
    let refused = CompanionRequest::read(envelope);
    assert_eq!(refused, Err(WireError::Version { spoken: VERSION, found: 9 }));
    assert_eq!(refused.unwrap_err().to_string(), "the client speaks version 9, this server version 1");
    other[3] ^= 1;
    let envelope = Envelope::seal(&Raw(&other), &mut buffer).unwrap();
    assert_eq!(CompanionRequest::read(envelope), Err(WireError::NoHello));
}

/// Bytes as they are.
struct Raw<'a>(&'a [u8]);

impl serde::Serialize for Raw<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple;
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

fn postcard_of<'b>(message: &impl serde::Serialize, buffer: &'b mut [u8]) -> &'b [u8] {
    let length = headroom_shared::wire::encode(message, u32::MAX, buffer).unwrap();
    &buffer[4..length]
}

#[test]
fn a_ladder_is_whole_rungs_and_not_too_many() {
    for wrong in [0, 1, RungCost::BYTES + 1, RungCost::BYTES * (MAX_RUNGS + 1)] {
        let bytes = vec![0; wrong];
        assert_eq!(RungCosts::from_bytes(&bytes), Err(WireError::Rungs { bytes: wrong as u64 }), "{wrong}");
    }
}

proptest! {
    /// A CRC-32 finds every burst of up to 32 bits, so that no changed byte passes; the frame after it is read.
    #[test]
    fn a_changed_byte_loses_its_message_and_no_other(at in 0usize..1000, change in 1u8..=255) {
        let whole = framed(&telemetry());
        let mut line = whole.clone();
        let at = at % (line.len() - 1);
        line[at] ^= change;
        line.extend_from_slice(&whole);
        line.extend_from_slice(&whole);
        let mut buffer = [0; 64];
        let mut receiver = Receiver::new(&mut buffer);
        let mut read = 0;
        for byte in line {
            if let Some(Received::Message(stuffed)) = receiver.push(byte)
                && let Ok(request) = read_request(stuffed)
            {
                prop_assert_eq!(request, telemetry());
                read += 1;
            }
        }
        prop_assert_eq!(read, 2);
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = read_request(&mut bytes.clone());
        let mut buffer = [0; 256];
        let envelope = Envelope::seal(&Raw(&bytes), &mut buffer).unwrap();
        let _ = CompanionRequest::read(envelope);
        let _ = CompanionReport::read(envelope);
    }
}
