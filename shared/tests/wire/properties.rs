//! What is written is read; what is not a message is refused, whatever it is.

use headroom_shared::TimeSpan;
use headroom_shared::wire::{
    LENGTH_BYTES, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, Outputs, RefusalReason, Request, Response, Values, decode,
    encode, encoded_length, payload_length,
};
use proptest::collection::vec;
use proptest::prelude::*;

fn payload(message: &impl serde::Serialize, most: u32) -> Vec<u8> {
    let mut buffer = vec![0; encoded_length(message, most).unwrap()];
    assert_eq!(encode(message, most, &mut buffer), Ok(buffer.len()));
    let (length, payload) = buffer.split_first_chunk::<LENGTH_BYTES>().unwrap();
    assert_eq!(payload_length(*length, most), Ok(payload.len()));
    payload.to_vec()
}

proptest! {
    #[test]
    fn images_are_read_as_written(id: u64, width in 1u32..20, height in 1u32..20, outputs in 0..3usize, seed: u8) {
        let rgb: Vec<u8> = (0..3 * width * height).map(|byte| (byte as u8).wrapping_mul(seed)).collect();
        let outputs = [Outputs::Embedding, Outputs::Logits, Outputs::Both][outputs];
        let request = Request::Infer { id, width, height, outputs, rgb: &rgb };
        let payload = payload(&request, MAX_REQUEST_BYTES);
        prop_assert_eq!(Request::read(&payload), Ok(request));
    }

    #[test]
    fn results_are_read_as_written(id: u64, bundle: [u8; 32], rung: u8, macs: u64, times: [u64; 2], values in vec(-1e9f32..1e9, 0..50)) {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let embedding = Values::from_bytes(&bytes).unwrap();
        let [latency, queued] = times.map(TimeSpan::from_nanoseconds);
        let result = Response::Result { id, bundle, rung, fidelity: 0.5, macs, latency, queued, embedding, logits: embedding };
        let payload = payload(&result, MAX_RESPONSE_BYTES);
        prop_assert_eq!(Response::read(&payload), Ok(result));
        prop_assert!(embedding.iter().eq(values));
    }

    #[test]
    fn no_bytes_are_half_read(bytes in vec(any::<u8>(), 0..200)) {
        // A panic is what would fail this; whatever is accepted has the bytes of its size.
        let _ = Request::read_hello(&bytes);
        let _ = Response::read(&bytes);
        let _ = decode::<Request<'_>>(&bytes);
        if let Ok(Request::Infer { width, height, rgb, .. }) = Request::read(&bytes) {
            prop_assert_eq!(rgb.len() as u64, 3 * u64::from(width) * u64::from(height));
        }
    }

    #[test]
    fn a_cut_message_is_no_message(id: u64, cut in 0usize..100) {
        let whole = payload(&Response::Refused { id, reason: RefusalReason::Dropped }, MAX_RESPONSE_BYTES);
        prop_assert!(Response::read(&whole[..cut % whole.len()]).is_err());
    }
}
