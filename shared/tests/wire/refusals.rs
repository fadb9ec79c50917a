//! One message for each thing that can be wrong.

use headroom_shared::wire::{
    HELLO_MAGIC, MAX_HELLO_BYTES, MAX_REQUEST_BYTES, Outputs, Request, VERSION, WhenFull, WireError, encode,
    payload_length,
};

fn payload(request: &Request<'_>) -> Vec<u8> {
    let mut buffer = [0; 256];
    let length = encode(request, MAX_REQUEST_BYTES, &mut buffer).unwrap();
    buffer[4..length].to_vec()
}

#[test]
fn lengths_are_limited() {
    assert_eq!(payload_length([0; 4], MAX_HELLO_BYTES), Err(WireError::Empty));
    assert_eq!(payload_length([64, 0, 0, 0], MAX_HELLO_BYTES), Ok(64));
    let error = payload_length(*b"GET ", MAX_REQUEST_BYTES).unwrap_err();
    assert_eq!(error, WireError::TooLong { most: MAX_REQUEST_BYTES, found: 542_393_671 });
    assert_eq!(error.to_string(), "a message of 542393671 bytes, at most 33554432 are allowed");
}

#[test]
fn a_hello_is_one_of_this_version() {
    let hello = payload(&Request::hello(WhenFull::Wait, 2));
    assert_eq!(Request::read_hello(&hello), Ok((WhenFull::Wait, 2)));
    assert_eq!(Request::read_hello(&payload(&Request::Status { id: 1 })), Err(WireError::NoHello));
    assert_eq!(Request::read_hello(&hello[..12]), Err(WireError::NoHello));
    let mut other = hello.clone();
    other[1] ^= 1;
    assert_eq!(Request::read_hello(&other), Err(WireError::NoHello));
    // Another version may have anything behind it.
    let other = [&[0][..], &HELLO_MAGIC, &7u32.to_le_bytes(), b"something else"].concat();
    assert_eq!(Request::read_hello(&other), Err(WireError::Version { spoken: VERSION, found: 7 }));
    let longer = [&hello[..], &[0]].concat();
    assert_eq!(Request::read_hello(&longer), Err(WireError::Remainder { bytes: 1 }));
}

#[test]
fn requests_are_what_they_say() {
    assert_eq!(Request::read(&payload(&Request::hello(WhenFull::Wait, 2))), Err(WireError::SecondHello));
    assert_eq!(Request::read(&[77]), Err(WireError::Malformed));
    let sizes = [(0, 0, 0), (2, 1, 5), (u32::MAX, u32::MAX, 6)];
    for (width, height, bytes) in sizes {
        let image = Request::Infer { id: 1, width, height, outputs: Outputs::Both, rgb: &[0; 6][..bytes] };
        let payload = payload(&image);
        assert!(matches!(Request::read(&payload), Err(WireError::Pixels { .. })), "{width} x {height}");
    }
}

#[test]
fn a_buffer_that_is_too_small_stays_as_it_was() {
    let mut buffer = [9; 6];
    let refused = encode(&Request::Status { id: 300 }, MAX_REQUEST_BYTES, &mut buffer);
    assert_eq!(refused, Err(WireError::BufferTooSmall { needed: 7, found: 6 }));
    assert_eq!(buffer, [9; 6]);
    assert_eq!(encode(&Request::Status { id: 300 }, 2, &mut buffer), Err(WireError::TooLong { most: 2, found: 3 }));
}
