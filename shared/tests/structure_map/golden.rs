//! The worked example of `structure_map`'s documentation, byte for byte.

use headroom_shared::structure_map::{self, StructureMap};
use headroom_shared::{Energy, Ladder, MlpKind, ModelShape, Rung, TimeSpan, cost};

#[rustfmt::skip]
const GOLDEN: &[u8] = &[
    0x48, 0x45, 0x41, 0x44, 0x52, 0x4d, 0x41, 0x50,
    0x01, 0x00, 0x00, 0x00,
    0x52, 0x00, 0x00, 0x00,
    0x37, 0x18, 0x8c, 0x8f,
    0x01, 0x02, 0x04, 0x0c,
    0x08, 0x05, 0x00, 0x04,
    0x00, 0x00, 0x01, 0x00,
    0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab,
    0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab,
    0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab,
    0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab, 0xab,
    0x02, 0x00, 0x01,
    0x02,
    0x00, 0xd0, 0x14, 0xd0, 0x10,
    0x00, 0x00, 0x80, 0x3f,
    0xe8, 0x07, 0x02, 0x00, 0x00,
    0x01, 0x00,
    0x02, 0xc8, 0x0b, 0x90, 0x0a,
    0x00, 0x00, 0x00, 0x3f,
    0xf4, 0x03, 0x01, 0x01, 0xd8, 0x04, 0x00,
    0x01, 0x00,
];

fn shape() -> ModelShape {
    ModelShape {
        blocks: 1,
        heads: 2,
        head_dim: 4,
        neurons: 12,
        embed_dim: 8,
        tokens: 5,
        mlp: MlpKind::Plain,
        bytes_per_weight: 4,
        outside_macs: 0,
        outside_weight_bytes: 0,
        floor_heads: 1,
        floor_neurons: 0,
    }
}

fn rungs() -> [Rung<'static>; 2] {
    let dense = Rung {
        steps: 0,
        macs: 2640,
        weight_bytes: 2128,
        fidelity: 1.0,
        predicted_latency: TimeSpan::from_nanoseconds(1000),
        predicted_energy: Energy::from_microjoules(2),
        measured_latency: None,
        measured_energy: None,
        token_schedule: &[0],
    };
    let smallest = Rung {
        steps: 2,
        macs: 1480,
        weight_bytes: 1296,
        fidelity: 0.5,
        predicted_latency: TimeSpan::from_nanoseconds(500),
        predicted_energy: Energy::from_microjoules(1),
        measured_latency: Some(TimeSpan::from_nanoseconds(600)),
        measured_energy: None,
        token_schedule: &[0],
    };
    [dense, smallest]
}

/// The group of neurons 8..12 of block 0, then its second head.
const STEPS: &[u8] = &[0b0000_0000, 0b0000_0001];

fn map() -> StructureMap<'static> {
    let ladder = Ladder::from_rungs(&rungs()).expect("two rungs");
    StructureMap::new(shape(), [0xab; 32], STEPS, ladder).expect("valid")
}

#[test]
fn writing_gives_the_golden_bytes() {
    let mut buffer = [0xff; 256];
    let length = map().write(&mut buffer).expect("fits");
    assert_eq!(&buffer[..length], GOLDEN, "{:02x?}", &buffer[..length]);
    assert!(length <= structure_map::encoded_bound(STEPS.len()));
}

#[test]
fn reading_gives_the_map_back_in_place() {
    let read = StructureMap::read(GOLDEN).expect("valid");
    assert_eq!(read, map());
    assert_eq!(read.shape(), &shape());
    assert_eq!(read.weights_sha256(), &[0xab; 32]);
    assert_eq!(read.rungs(), rungs());
    assert!(GOLDEN.as_ptr_range().contains(&read.steps().as_ptr()), "steps are borrowed");
    let smallest = read.sub_network_after(2);
    assert_eq!(smallest.counts().collect::<Vec<_>>(), [(1, 8)]);
    assert_eq!(cost::macs(&shape(), &smallest), 1480);
}

/// The documentation shows these very bytes.
#[test]
fn the_documentation_shows_the_golden_bytes() {
    let documentation = include_str!("../../src/structure_map/mod.rs");
    let shown: Vec<u8> = documentation
        .lines()
        .skip_while(|line| !line.contains("48 45 41 44"))
        .take_while(|line| !line.contains("```"))
        // Up to eight bytes, then what they mean.
        .map(|line| line.trim_start_matches("//! "))
        .flat_map(|line| line.get(..26).unwrap_or(line).split_whitespace())
        .map(|word| u8::from_str_radix(word, 16).expect("two hexadecimal digits"))
        .collect();
    assert_eq!(shown, GOLDEN);
}
