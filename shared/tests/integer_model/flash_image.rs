//! The flash image: the same parts come back, and damage of any bit is refused or changes nothing.

use super::sample::parts;
use headroom_shared::flash_image::{FlashImage, HEADER_BYTES, PART_ALIGNMENT, Settings};
use headroom_shared::{
    Energy, FlashImageError as Error, Ladder, MlpKind, ModelShape, Power, Rung, StructureMap, SubNetwork, Temperature,
    TimeSpan, cost,
};

fn settings() -> Settings {
    Settings {
        board: "sample".try_into().unwrap(),
        target: Temperature::from_millidegrees(75_000),
        passive: Temperature::from_millidegrees(95_000),
        critical: Temperature::from_millidegrees(125_000),
        idle: Power::from_milliwatts(150),
    }
}

/// The map of a model with the sizes of the sample, which has one rung.
fn map(heads: u8, weights_sha256: [u8; 32]) -> Vec<u8> {
    let shape = ModelShape {
        blocks: 1,
        heads,
        head_dim: 4,
        neurons: 6,
        embed_dim: 4,
        tokens: 3,
        mlp: MlpKind::Gated,
        bytes_per_weight: 1,
        outside_macs: 0,
        outside_weight_bytes: 0,
        floor_heads: 0,
        floor_neurons: 0,
    };
    let dense = SubNetwork::dense(&shape);
    let rung = Rung {
        steps: 0,
        macs: cost::macs(&shape, &dense),
        weight_bytes: cost::weight_bytes(&shape, &dense),
        fidelity: 1.0,
        predicted_latency: TimeSpan::from_nanoseconds(1),
        predicted_energy: Energy::from_microjoules(1),
        measured_latency: None,
        measured_energy: None,
        token_schedule: &[0],
    };
    let map = StructureMap::new(shape, weights_sha256, &[], Ladder::from_rungs(&[rung]).unwrap()).unwrap();
    let mut bytes = vec![0; 4096];
    let length = map.write(&mut bytes).unwrap();
    bytes.truncate(length);
    bytes
}

fn image() -> Vec<u8> {
    FlashImage::write(&settings(), &map(3, [0xab; 32]), &parts().write().unwrap()).unwrap()
}

#[test]
fn the_same_parts_come_back_from_a_region_that_is_longer() {
    let mut region = image();
    let (map, model) = (map(3, [0xab; 32]), parts().write().unwrap());
    assert_eq!(FlashImage::bytes(&settings(), map.len(), model.len()), Ok(region.len() as u64));
    region.extend([0xff; 100]);
    let read = FlashImage::read(&region).unwrap();
    assert_eq!((read.settings.clone(), &read.map), (settings(), &StructureMap::read(&map).unwrap()));
    assert_eq!(read.model.sizes(), &parts().sizes);
    // The sample stores two of three heads, and there is no rung 1.
    assert_eq!((read.has_rung(0), read.has_rung(1)), (false, false));
}

#[test]
fn every_truncation_is_refused() {
    let image = image();
    for length in 0..image.len() {
        let error = FlashImage::read(&image[..length]).expect_err("cut off");
        assert!(matches!(error, Error::Truncated { expected, found } if expected > found), "{length} bytes: {error}");
    }
}

#[test]
fn every_bit_flip_is_refused_but_in_a_gap() {
    let mut bytes = image();
    let original = bytes.clone();
    let mut in_gaps = 0;
    for byte in 0..bytes.len() {
        for bit in 0..8 {
            bytes[byte] ^= 1 << bit;
            match (byte, FlashImage::read(&bytes)) {
                (0..8, result) => assert_eq!(result.err(), Some(Error::NotAFlashImage)),
                (8..12, Err(Error::UnsupportedVersion { readable: 1, .. })) => {}
                (12..16, Err(Error::Checksum { .. })) => {}
                (16..HEADER_BYTES, Err(Error::Checksum { .. } | Error::Truncated { .. })) => {}
                (HEADER_BYTES.., Err(_)) => {}
                (HEADER_BYTES.., Ok(_)) if original[byte] == 0 => in_gaps += 1,
                (_, result) => panic!("bit {bit} of byte {byte}: {result:?}"),
            }
            bytes[byte] ^= 1 << bit;
        }
    }
    assert!(in_gaps <= 2 * 8 * (PART_ALIGNMENT - 1), "{in_gaps} flips were not noticed");
}

#[test]
fn parts_of_different_models_are_refused() {
    let model = parts().write().unwrap();
    for other in [map(3, [0xac; 32]), map(2, [0xab; 32])] {
        assert_eq!(FlashImage::write(&settings(), &other, &model), Err(Error::OtherModel));
    }
}
