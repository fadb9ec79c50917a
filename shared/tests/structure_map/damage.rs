//! Every single-bit flip and every truncation of a real map is refused with
//! the right error, and nothing that a payload can hold panics.

use super::sample;
use headroom_shared::StructureMapError as Error;
use headroom_shared::structure_map::{HEADER_BYTES, StructureMap};

#[test]
fn a_vit_b16_map_is_small() {
    let bytes = sample::encoded();
    let map = StructureMap::read(&bytes).expect("valid");
    assert_eq!(map.steps().len(), 4_920);
    assert_eq!(map.rungs().len(), sample::RUNGS);
    assert!(bytes.len() <= 8 * 1024, "{}", bytes.len());
    // As the documentation of `structure_map` states.
    assert_eq!(bytes.len(), 6_029);
}

#[test]
fn every_bit_flip_is_refused() {
    let original = sample::encoded();
    let mut bytes = original.clone();
    let length = original.len() as u64;
    for byte in 0..bytes.len() {
        for bit in 0..8 {
            bytes[byte] ^= 1 << bit;
            let error = StructureMap::read(&bytes).expect_err("damaged");
            let right = match (byte, error) {
                (0..8, Error::NotAStructureMap) => true,
                (8..12, Error::UnsupportedVersion { readable: 1, found }) => found == 1 ^ (1 << (8 * (byte - 8) + bit)),
                (12..16, Error::Truncated { expected, found }) => expected > found && found == length,
                (12..16, Error::TrailingBytes { expected, found }) => expected < found && found == length,
                (16.., Error::Checksum { expected, found }) => expected != found,
                _ => false,
            };
            assert!(right, "bit {bit} of byte {byte}: {error}");
            bytes[byte] ^= 1 << bit;
        }
    }
    assert_eq!(bytes, original);
}

#[test]
fn every_truncation_is_refused() {
    let bytes = sample::encoded();
    for length in 0..bytes.len() {
        let error = StructureMap::read(&bytes[..length]).expect_err("cut off");
        let expected = if length < HEADER_BYTES { HEADER_BYTES } else { bytes.len() } as u64;
        assert_eq!(error, Error::Truncated { expected, found: length as u64 }, "{length} bytes");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    let expected = bytes.len() as u64;
    assert_eq!(StructureMap::read(&longer), Err(Error::TrailingBytes { expected, found: expected + 1 }));
}

/// Damage that the checksum covers up, as a hostile file would: refused, or a
/// valid map that is written as the same bytes.
#[test]
fn a_flipped_payload_with_a_right_checksum_is_never_half_accepted() {
    let mut bytes = sample::encoded();
    let mut written = vec![0; bytes.len() + 64];
    let mut accepted = 0;
    for byte in HEADER_BYTES..bytes.len() {
        for bit in 0..8 {
            bytes[byte] ^= 1 << bit;
            seal(&mut bytes);
            if let Ok(map) = StructureMap::read(&bytes) {
                let length = map.write(&mut written).expect("as long as what was read");
                assert_eq!(&written[..length], bytes, "bit {bit} of byte {byte}");
                accepted += 1;
            }
            bytes[byte] ^= 1 << bit;
        }
    }
    // The 256 bits of the weights' hash mean nothing to the reader, so all pass.
    assert!(accepted > 256, "{accepted}");
}

/// Writes the checksum that the payload has.
fn seal(bytes: &mut [u8]) {
    let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&bytes[HEADER_BYTES..]);
    bytes[16..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}
