//! One malformed map, or one map that cannot be made, for every error.

use super::sample;
use headroom_shared::ladder::{LadderError, MAX_RUNGS};
use headroom_shared::structure_map::{self, HEADER_BYTES, StructureMap};
use headroom_shared::sub_network::{ReplayError, StepError, TokenScheduleError};
use headroom_shared::{Ladder, MlpKind, ModelShape, Rung, ShapeError, StructureMapError as Error};

const SCHEDULE: &[u8] = &[0, 0];

fn shape() -> ModelShape {
    ModelShape {
        blocks: 2,
        heads: 3,
        head_dim: 4,
        neurons: 16,
        embed_dim: 12,
        tokens: 5,
        mlp: MlpKind::Gated,
        bytes_per_weight: 4,
        outside_macs: 100,
        outside_weight_bytes: 200,
        floor_heads: 1,
        floor_neurons: 8,
    }
}

/// Two heads and one group of neurons of each block.
fn steps() -> Vec<u8> {
    sample::ranking(&shape(), 3)
}

fn rungs() -> Vec<Rung<'static>> {
    sample::rungs(&shape(), &steps(), 3, SCHEDULE)
}

/// A file with these parts, right or wrong: length and checksum are right.
fn file(shape: ModelShape, steps: &[u8], rungs: &[Rung<'_>]) -> Vec<u8> {
    sealed(&postcard_bytes(shape, steps, rungs))
}

fn postcard_bytes(shape: ModelShape, steps: &[u8], rungs: &[Rung<'_>]) -> Vec<u8> {
    let mut buffer = vec![0; 64 * 1024];
    postcard::to_slice(&(shape, [7_u8; 32], steps, rungs), &mut buffer).expect("fits").to_vec()
}

fn sealed(payload: &[u8]) -> Vec<u8> {
    let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(payload);
    let length = payload.len() as u32;
    [b"HEADRMAP", &1_u32.to_le_bytes()[..], &length.to_le_bytes(), &checksum.to_le_bytes(), payload].concat()
}

fn error(bytes: &[u8]) -> Error {
    StructureMap::read(bytes).expect_err("malformed")
}

#[test]
fn the_parts_that_the_others_break_are_right() {
    let bytes = file(shape(), &steps(), &rungs());
    let map = StructureMap::read(&bytes).expect("valid");
    assert_eq!(map.rungs(), rungs());
    assert_eq!(steps().len(), shape().removable_steps());
}

#[test]
fn header() {
    let good = file(shape(), &steps(), &rungs());
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        error(&bytes)
    };
    assert_eq!(with(0, b'h'), Error::NotAStructureMap);
    assert_eq!(with(8, 2), Error::UnsupportedVersion { readable: 1, found: 2 });
    assert!(with(8, 2).to_string().contains("version 2, this program reads version 1"));
    let length = good.len() as u64;
    assert_eq!(with(15, 1), Error::Truncated { expected: length + (1 << 24), found: length });
    assert!(matches!(with(12, 0), Error::TrailingBytes { expected: 20, .. }));
    assert!(matches!(with(16, !good[16]), Error::Checksum { .. }));
    assert_eq!(error(b"RIFF"), Error::NotAStructureMap);
    assert_eq!(error(b""), Error::Truncated { expected: 20, found: 0 });
}

/// The version is read before the length, so that a longer header of a newer
/// version is not taken for damage.
#[test]
fn a_newer_version_is_reported_whatever_follows() {
    let bytes = [&b"HEADRMAP"[..], &9_u32.to_le_bytes(), &[1, 2, 3]].concat();
    assert_eq!(error(&bytes), Error::UnsupportedVersion { readable: 1, found: 9 });
}

#[test]
fn payload() {
    let good = postcard_bytes(shape(), &steps(), &rungs());
    assert_eq!(error(&sealed(&good[..good.len() - 1])), Error::Payload);
    assert_eq!(error(&sealed(&[&good[..], &[0]].concat())), Error::PayloadRemainder { bytes: 1 });
    let too_many = vec![rungs()[0]; MAX_RUNGS + 1];
    assert_eq!(error(&file(shape(), &steps(), &too_many)), Error::Payload);
    // 12, the width, is byte 4; the same number padded to two bytes.
    assert_eq!(good[4], 12);
    let padded = [&good[..4], &[0x8c, 0x00], &good[5..]].concat();
    assert_eq!(error(&sealed(&padded)), Error::NotShortest { at: 4 });
    // An MLP kind that does not exist.
    assert_eq!(good[6], MlpKind::Gated as u8);
    let unknown = [&good[..6], &[2], &good[7..]].concat();
    assert_eq!(error(&sealed(&unknown)), Error::Payload);
}

#[test]
fn shapes() {
    let wrong = ModelShape { bytes_per_weight: 8, ..shape() };
    assert_eq!(error(&file(wrong, &steps(), &rungs())), Error::Shape(ShapeError::BytesPerWeight { found: 8 }));
    let wrong = ModelShape { blocks: 65, ..shape() };
    let expected = ShapeError::OutOfRange { field: "blocks", smallest: 1, largest: 64, found: 65 };
    assert_eq!(error(&file(wrong, &steps(), &rungs())), Error::Shape(expected));
}

#[test]
fn rankings() {
    let reason = |steps: &[u8]| match error(&file(shape(), steps, &rungs())) {
        Error::Ranking(ReplayError { at, reason }) => (at, reason),
        other => panic!("{other}"),
    };
    let values = vec![0b10; usize::from(shape().head_dim.div_ceil(8))];
    assert_eq!(reason(&values), (values.len() as u32 - 1, StepError::NoValueDims { block: 0 }));
    let queries = vec![0b11; values.len()];
    assert_eq!(reason(&queries), (values.len() as u32 - 1, StepError::NoQueryDims { block: 0 }));
    assert_eq!(reason(&[1, 2 << 2]), (1, StepError::BlockOutOfRange { block: 2, blocks: 2 }));
    assert_eq!(reason(&[1, 1, 1]), (2, StepError::HeadsBelowFloor { block: 0, floor: 1 }));
    assert_eq!(reason(&[4, 4]), (1, StepError::NeuronsBelowFloor { block: 1, floor: 8 }));
}

/// The error of a file whose rung `index` was changed.
fn ladder_error(index: usize, change: impl FnOnce(&mut Rung<'static>)) -> LadderError {
    let mut rungs = rungs();
    change(&mut rungs[index]);
    match error(&file(shape(), &steps(), &rungs)) {
        Error::Ladder(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn ladders() {
    assert_eq!(error(&file(shape(), &steps(), &[])), Error::Ladder(LadderError::Empty));
    assert_eq!(ladder_error(0, |rung| rung.steps = 1), LadderError::FirstNotDense { found: 1 });
    let previous = rungs()[1];
    assert_eq!(
        ladder_error(2, |rung| rung.steps = previous.steps - 1),
        LadderError::StepsFalling { rung: 2, previous: previous.steps, found: previous.steps - 1 }
    );
    assert_eq!(
        ladder_error(2, |rung| rung.steps = 7),
        LadderError::StepsBeyondRanking { rung: 2, ranking: 6, found: 7 }
    );
    assert_eq!(
        ladder_error(2, |rung| rung.macs = previous.macs),
        LadderError::MacsNotFalling { rung: 2, previous: previous.macs, found: previous.macs }
    );
    let last = rungs()[2];
    assert_eq!(
        ladder_error(2, |rung| rung.macs -= 1),
        LadderError::Macs { rung: 2, expected: last.macs, found: last.macs - 1 }
    );
    assert_eq!(
        ladder_error(2, |rung| rung.weight_bytes += 1),
        LadderError::WeightBytes { rung: 2, expected: last.weight_bytes, found: last.weight_bytes + 1 }
    );
    for found in [1.001, -1.001, f32::INFINITY] {
        assert_eq!(ladder_error(1, |rung| rung.fidelity = found), LadderError::Fidelity { rung: 1, found });
    }
    let not_a_number = ladder_error(1, |rung| rung.fidelity = f32::NAN);
    assert!(matches!(not_a_number, LadderError::Fidelity { rung: 1, found } if found.is_nan()));
    assert_eq!(
        ladder_error(1, |rung| rung.token_schedule = &[0]),
        LadderError::TokenScheduleLength { rung: 1, expected: 2, found: 1 }
    );
    assert_eq!(
        ladder_error(1, |rung| rung.token_schedule = &[0, 4]),
        LadderError::TokenSchedule { rung: 1, reason: TokenScheduleError::TooMany { block: 1, tokens: 5, found: 4 } }
    );
    assert_eq!(ladder_error(0, |rung| rung.token_schedule = &[0, 1]), LadderError::FirstMerges { block: 1 });
}

#[test]
fn what_cannot_be_read_cannot_be_made() {
    let full = Ladder::from_rungs(&vec![rungs()[0]; MAX_RUNGS + 1]);
    assert_eq!(full, Err(LadderError::Full { capacity: 32 }));
    let made = StructureMap::new(shape(), [0; 32], &[], Ladder::new());
    assert_eq!(made, Err(Error::Ladder(LadderError::Empty)));
}

#[test]
fn a_buffer_that_is_too_small_stays_untouched() {
    let steps = steps();
    let ladder = Ladder::from_rungs(&rungs()).expect("3 rungs");
    let map = StructureMap::new(shape(), [7; 32], &steps, ladder).expect("valid");
    let needed = file(shape(), &steps, &rungs()).len();
    for found in 0..needed {
        let mut buffer = vec![0xee; found];
        let expected = Error::BufferTooSmall { needed: needed as u64, found: found as u64 };
        assert_eq!(map.write(&mut buffer), Err(expected));
        assert!(buffer.iter().all(|&byte| byte == 0xee));
    }
    assert_eq!(map.write(&mut vec![0; needed]), Ok(needed));
    assert!(needed <= structure_map::encoded_bound(steps.len()) && needed > HEADER_BYTES);
}
