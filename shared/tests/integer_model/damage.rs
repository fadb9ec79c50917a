//! Every single-bit flip and every truncation is refused with the right error, and nothing that a content can hold
//! panics.

use super::sample::{parts, visit};
use headroom_shared::IntegerModelError as Error;
use headroom_shared::integer_model::{HEADER_BYTES, IntegerModel};
use proptest::prelude::*;

#[test]
fn every_bit_flip_is_refused() {
    let mut bytes = parts().write().unwrap();
    let length = bytes.len() as u64;
    for byte in 0..bytes.len() {
        for bit in 0..8 {
            bytes[byte] ^= 1 << bit;
            let error = IntegerModel::read(&bytes).expect_err("damaged");
            let right = match (byte, error) {
                (0..8, Error::NotAnIntegerModel) => true,
                (8..12, Error::UnsupportedVersion { readable: 2, .. }) => true,
                (12..16, Error::Truncated { expected, found }) => expected > found && found == length,
                (12..16, Error::TrailingBytes { expected, found }) => expected < found && found == length,
                (20..HEADER_BYTES, Error::Padding { at }) => at == byte as u64,
                (16..20 | HEADER_BYTES.., Error::Checksum { expected, found }) => expected != found,
                _ => false,
            };
            assert!(right, "bit {bit} of byte {byte}: {error}");
            bytes[byte] ^= 1 << bit;
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let bytes = parts().write().unwrap();
    for length in 0..bytes.len() {
        let error = IntegerModel::read(&bytes[..length]).expect_err("cut off");
        let expected = if length < HEADER_BYTES { HEADER_BYTES } else { bytes.len() } as u64;
        assert_eq!(error, Error::Truncated { expected, found: length as u64 }, "{length} bytes");
    }
    let longer = [&bytes[..], &[0]].concat();
    let expected = bytes.len() as u64;
    let refused = IntegerModel::read(&longer).unwrap_err();
    assert_eq!(refused, Error::TrailingBytes { expected, found: expected + 1 });
}

/// Damage that the checksum covers up, as a hostile file would: refused, or a model of which everything can be read.
#[test]
fn a_flipped_content_with_a_right_checksum_never_panics() {
    let mut bytes = parts().write().unwrap();
    let mut accepted = 0;
    for byte in HEADER_BYTES..bytes.len() {
        for bit in 0..8 {
            bytes[byte] ^= 1 << bit;
            seal(&mut bytes);
            if let Ok(model) = IntegerModel::read(&bytes) {
                std::hint::black_box(visit(&model));
                accepted += 1;
            }
            bytes[byte] ^= 1 << bit;
        }
    }
    // The weights' hash and all numbers mean nothing to the reader; gaps and sizes do.
    assert!(accepted > 256 && accepted < 8 * (bytes.len() - HEADER_BYTES), "{accepted}");
}

proptest! {
    #[test]
    fn any_sizes_with_a_right_checksum_never_panic(
        sizes in proptest::collection::vec(any::<u8>(), 32),
        places in proptest::collection::vec((0_usize..32, any::<u8>()), 0..4),
        length in 0_usize..2048,
    ) {
        let mut bytes = parts().write().unwrap();
        let (start, few) = (HEADER_BYTES + 32, places.len() < 3);
        if few {
            // A size or two of the real ones.
            places.iter().for_each(|&(place, value)| bytes[start + place] = value);
        } else {
            bytes[start..start + 32].copy_from_slice(&sizes);
            bytes.resize(HEADER_BYTES + length, 0);
        }
        let content = (bytes.len() - HEADER_BYTES) as u32;
        bytes[12..16].copy_from_slice(&content.to_le_bytes());
        seal(&mut bytes);
        if let Ok(model) = IntegerModel::read(&bytes) {
            std::hint::black_box(visit(&model));
        }
    }
}

/// Writes the checksum that the content has.
fn seal(bytes: &mut [u8]) {
    let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&bytes[HEADER_BYTES..]);
    bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
}
