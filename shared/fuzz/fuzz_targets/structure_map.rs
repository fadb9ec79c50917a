//! No bytes make the reader of structure maps panic, and what it accepts is
//! written as the same bytes.
//!
//! Every input is read twice: as it is, and under a header that is right for
//! it. Without the second reading the fuzzer would have to guess a checksum to
//! get past the header.
#![no_main]

use headroom_shared::structure_map::{FORMAT_VERSION, HEADER_BYTES, MAGIC, StructureMap};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    read_and_write(bytes);
    read_and_write(&with_header(bytes.get(HEADER_BYTES..).unwrap_or(bytes)));
});

fn read_and_write(bytes: &[u8]) {
    let Ok(map) = StructureMap::read(bytes) else { return };
    let mut written = vec![0; bytes.len()];
    assert_eq!(map.write(&mut written), Ok(bytes.len()));
    assert_eq!(written, bytes);
    let smallest = map.rungs().last().expect("an accepted map has rungs");
    assert!(smallest.steps as usize <= map.steps().len());
    assert_eq!(map.sub_network_after(0).blocks(), smallest.token_schedule.len());
}

fn with_header(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("inputs are short");
    let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(payload);
    let fields = [FORMAT_VERSION, length, checksum].map(u32::to_le_bytes);
    [&MAGIC[..], fields.as_flattened(), payload].concat()
}
