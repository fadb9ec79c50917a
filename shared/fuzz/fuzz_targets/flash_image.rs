//! No bytes make the reader of flash images panic, and all rungs of what it accepts can be asked for.
//!
//! Every input is read twice: as it is, and with the checksums of header, map and model made right for it.
#![no_main]

use headroom_shared::flash_image::{FlashImage, HEADER_BYTES, PART_ALIGNMENT};
use headroom_shared::{integer_model, structure_map};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    let mut repaired = bytes.to_vec();
    if repair(&mut repaired).is_some() {
        read(&repaired);
    }
});

fn read(region: &[u8]) {
    let Ok(image) = FlashImage::read(region) else { return };
    let rungs = image.map.rungs().len();
    for rung in 0..rungs {
        assert!(!image.has_rung(rung) || image.map.sub_network_of(rung).is_some());
    }
    assert!(!image.has_rung(rungs));
    // What follows the image is not read.
    let longer = [region, &[0xa5; 5]].concat();
    assert!(FlashImage::read(&longer).is_ok_and(|again| again.settings == image.settings));
}

/// `None` where the image is too short for its parts.
fn repair(image: &mut [u8]) -> Option<()> {
    let length = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    let (settings, map, model) = (length(16)?, length(20)?, length(24)?);
    let map_at = HEADER_BYTES.checked_add(settings)?.checked_next_multiple_of(PART_ALIGNMENT)?;
    let model_at = map_at.checked_add(map)?.checked_next_multiple_of(PART_ALIGNMENT)?;
    let checked = [image.get(16..HEADER_BYTES)?, image.get(HEADER_BYTES..HEADER_BYTES.checked_add(settings)?)?].concat();
    put(image, 12, crc(&checked))?;
    // Both parts have their checksum in the 4 bytes at 16, of what follows their header.
    for (at, length, header) in
        [(map_at, map, structure_map::HEADER_BYTES), (model_at, model, integer_model::HEADER_BYTES)]
    {
        let end = at.checked_add(length)?;
        let checksum = crc(image.get(at.checked_add(header)?..end)?);
        put(image, at + 16, checksum)?;
    }
    Some(())
}

fn put(image: &mut [u8], at: usize, value: u32) -> Option<()> {
    image.get_mut(at..at + 4)?.copy_from_slice(&value.to_le_bytes());
    Some(())
}

fn crc(bytes: &[u8]) -> u32 {
    crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(bytes)
}
