//! No bytes make the readers of messages panic, and what they accept is
//! written, read and written again as the same bytes.
//!
//! Not as the bytes that were read: postcard also takes integers that are
//! longer than they need be.
#![no_main]

use headroom_shared::wire::{
    LENGTH_BYTES, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, Request, Response, encode, encoded_length,
};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;

fuzz_target!(|bytes: &[u8]| {
    let _ = Request::read_hello(bytes);
    if let Ok(request) = Request::read(bytes) {
        let written = written(&request, MAX_REQUEST_BYTES);
        let again = Request::read(&written[LENGTH_BYTES..]).expect("what was written is a request");
        assert_eq!(self::written(&again, MAX_REQUEST_BYTES), written);
    }
    if let Ok(response) = Response::read(bytes) {
        let written = written(&response, MAX_RESPONSE_BYTES);
        let again = Response::read(&written[LENGTH_BYTES..]).expect("what was written is a response");
        assert_eq!(self::written(&again, MAX_RESPONSE_BYTES), written);
    }
});

fn written(message: &impl Serialize, most: u32) -> Vec<u8> {
    let mut buffer = vec![0; encoded_length(message, most).expect("inputs are short")];
    assert_eq!(encode(message, most, &mut buffer), Ok(buffer.len()));
    buffer
}
