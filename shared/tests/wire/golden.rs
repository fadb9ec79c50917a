//! The worked example of `wire`'s documentation, byte for byte.

use headroom_shared::TimeSpan;
use headroom_shared::wire::{
    LENGTH_BYTES, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, Outputs, Request, Response, Values, WhenFull, encode,
};

#[rustfmt::skip]
const HELLO: &[u8] = &[
    0x0f, 0x00, 0x00, 0x00,
    0x00,
    0x48, 0x45, 0x41, 0x44, 0x52, 0x4f, 0x4f, 0x4d,
    0x01, 0x00, 0x00, 0x00,
    0x00, 0x01,
];

#[rustfmt::skip]
const INFER: &[u8] = &[
    0x0d, 0x00, 0x00, 0x00,
    0x01, 0x80, 0x02,
    0x02, 0x01, 0x00,
    0x06, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff,
];

#[rustfmt::skip]
const RESULT: &[u8] = &[
    0x39, 0x00, 0x00, 0x00,
    0x01, 0x80, 0x02,
    0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab,
    0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab,
    0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab,
    0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab,
    0x03,
    0x00, 0x00, 0x40, 0x3f,
    0xd0, 0x0f,
    0xc0, 0x84, 0x3d,
    0xe8, 0x07,
    0x08, 0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x00, 0xc0,
    0x00,
];

const EMBEDDING: [u8; 8] = [0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0];

fn result() -> Response<'static> {
    Response::Result {
        id: 256,
        bundle: [0xab; 32],
        rung: 3,
        fidelity: 0.75,
        macs: 2000,
        latency: TimeSpan::from_nanoseconds(1_000_000),
        queued: TimeSpan::from_nanoseconds(1000),
        embedding: Values::from_bytes(&EMBEDDING).unwrap(),
        logits: Values::default(),
    }
}

fn written(message: &impl serde::Serialize, most: u32) -> Vec<u8> {
    let mut buffer = [0; 128];
    let length = encode(message, most, &mut buffer).unwrap();
    buffer[..length].to_vec()
}

#[test]
fn messages_are_written_as_documented() {
    let infer =
        Request::Infer { id: 256, width: 2, height: 1, outputs: Outputs::Embedding, rgb: &[255, 0, 0, 0, 0, 255] };
    assert_eq!(written(&Request::hello(WhenFull::DropOldest, 1), MAX_REQUEST_BYTES), HELLO);
    assert_eq!(written(&infer, MAX_REQUEST_BYTES), INFER);
    assert_eq!(written(&result(), MAX_RESPONSE_BYTES), RESULT);
}

#[test]
fn documented_bytes_are_read() {
    assert_eq!(Request::read_hello(&HELLO[LENGTH_BYTES..]), Ok((WhenFull::DropOldest, 1)));
    assert!(matches!(Request::read(&INFER[LENGTH_BYTES..]), Ok(Request::Infer { id: 256, width: 2, height: 1, .. })));
    let Ok(Response::Result { embedding, logits, .. }) = Response::read(&RESULT[LENGTH_BYTES..]) else {
        panic!("a result")
    };
    assert!(embedding.iter().eq([1.0, -2.0]) && logits.is_empty());
}
