//! No bytes make the reader of integer models panic, and all of what it accepts can be read.
//!
//! Every input is read twice: as it is, and under a header that is right for it.
#![no_main]

use headroom_shared::integer_model::{FORMAT_VERSION, HEADER_BYTES, IntegerModel, MAGIC};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    read(&with_header(bytes.get(HEADER_BYTES..).unwrap_or(bytes)));
});

fn read(bytes: &[u8]) {
    let Ok(model) = IntegerModel::read(bytes) else { return };
    assert_eq!(model.tokens().len(), model.sizes().tokens() * model.sizes().embed_dim);
    for block in 0..model.sizes().blocks {
        let counts = model.counts(block);
        let layers = model.block(block);
        assert_eq!(layers.query.rows(), counts.heads * counts.query_dims);
        for row in 0..layers.up.rows() {
            std::hint::black_box((layers.up.row(row), layers.up.scales().get(row), layers.up.biases().get(row)));
        }
        for correction in 0..model.corrections() {
            let ends = model.corrected_ends(correction, block);
            assert_eq!(ends.down.columns(), counts.neurons);
            assert_eq!(ends.projection.biases().len(), model.sizes().embed_dim);
        }
    }
}

fn with_header(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("inputs are short");
    let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(content);
    let fields = [FORMAT_VERSION, length, checksum].map(u32::to_le_bytes);
    [&MAGIC[..], fields.as_flattened(), &[0; 12], content].concat()
}
