//! What is written is what it always was, and says what was meant.

use super::sample::{parts, visit};
use headroom_shared::IntegerModelError;
use headroom_shared::integer_model::{BlockCounts, FORMAT_VERSION, HEADER_BYTES, HeadKind, IntegerModel, MAGIC};

/// The bytes of [`parts`], which are a seed of the fuzz target too.
const GOLDEN: &[u8] = include_bytes!("../../fuzz/seeds/integer_model/golden");

#[test]
fn the_sample_has_the_golden_bytes() {
    let written = parts().write().unwrap();
    if let Some(path) = std::env::var_os("HEADROOM_WRITE_GOLDEN") {
        std::fs::write(path, &written).unwrap();
    }
    assert_eq!(written.len(), GOLDEN.len());
    let different = written.iter().zip(GOLDEN).position(|(written, golden)| written != golden);
    assert_eq!(different, None, "the first byte that differs");
    assert_eq!(written[..8], MAGIC);
    assert_eq!(written[8..12], FORMAT_VERSION.to_le_bytes());
    assert_eq!(written.len() % 16, 0);
}

#[test]
fn the_sample_is_read_as_it_was_meant() {
    let parts = parts();
    let model = IntegerModel::read(GOLDEN).unwrap();
    assert_eq!(model.sizes(), &parts.sizes);
    assert_eq!(model.weights_sha256(), parts.weights_sha256);
    assert_eq!(model.counts(0), BlockCounts { heads: 2, query_dims: 4, value_dims: 3, neurons: 5 });
    assert_eq!([2, 5, 0].map(|rung| model.correction_of_rung(rung)), [Some(0), Some(1), None]);
    let block = model.block(0);
    let value = &parts.blocks[0].value;
    assert_eq!((block.value.rows(), block.value.columns()), (6, 4));
    let bytes: Vec<u8> = value.matrix.weights[4..8].iter().map(|weight| *weight as u8).collect();
    assert_eq!(block.value.row(1), [&bytes[..], &[0; 12]].concat());
    assert_eq!(block.value.scales().iter().collect::<Vec<_>>(), value.matrix.scales);
    assert_eq!(block.value.biases().get(5), value.biases[5]);
    // The second rung of the group has the second biases.
    let corrected = model.corrected_ends(1, 0);
    assert_eq!(corrected.down.biases().iter().collect::<Vec<_>>(), parts.groups[0].blocks[0].down.biases[4..]);
    assert!(visit(&model).is_finite());
    // Sections begin where a vector may.
    let offset = block.value.weights().as_ptr().addr() - GOLDEN.as_ptr().addr();
    assert_eq!((offset % 16, HEADER_BYTES % 16), (0, 0));
}

/// A file of version 1 is one without what came after it.
#[test]
fn the_version_before_is_read_too() {
    let mut parts = parts();
    parts.sizes.rotary = false;
    parts.rotary = None;
    let mut written = parts.write().unwrap();
    assert_eq!(written[8..12], 1_u32.to_le_bytes(), "older firmware reads it");
    assert_eq!(IntegerModel::read(&written).unwrap().sizes(), &parts.sizes);
    let mut lying = GOLDEN.to_vec();
    lying[8..12].copy_from_slice(&1_u32.to_le_bytes());
    let refused = IntegerModelError::OutOfRange { field: "format version", smallest: 2, largest: 2, found: 1 };
    assert_eq!(IntegerModel::read(&lying).unwrap_err(), refused);
    written[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
    let refused = IntegerModelError::UnsupportedVersion { readable: FORMAT_VERSION, found: FORMAT_VERSION + 1 };
    assert_eq!(IntegerModel::read(&written).unwrap_err(), refused);
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let refused = |change: fn(&mut headroom_shared::integer_model::IntegerModelParts)| {
        let mut parts = parts();
        change(&mut parts);
        parts.write().unwrap_err()
    };
    let part = |part, expected, found| IntegerModelError::Part { part, expected, found };
    assert_eq!(refused(|parts| parts.tokens.truncate(5)), part("tokens", 12, 5));
    assert_eq!(refused(|parts| parts.blocks[0].gate = None), part("gate", 1, 0));
    assert_eq!(refused(|parts| parts.blocks[0].up.biases.push(0.0)), part("up", 5, 6));
    assert_eq!(refused(|parts| parts.head.clear()), part("head", 1, 0));
    assert_eq!(refused(|parts| parts.groups[0].rungs.truncate(1)), part("corrected projection", 4, 8));
    let too_large = refused(|parts| parts.sizes.head_dim = 129);
    let headless =
        refused(|parts| (parts.sizes.prefix_tokens, parts.sizes.head) = (0, Some(HeadKind::ClassAndPatchMean)));
    assert!(
        matches!(headless, IntegerModelError::OutOfRange { field: "prefix tokens", smallest: 1, .. }),
        "{headless}"
    );
    assert_eq!(too_large, IntegerModelError::OutOfRange { field: "head_dim", smallest: 1, largest: 128, found: 129 });
}
