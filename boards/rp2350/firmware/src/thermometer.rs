//! The temperature sensor inside the RP2350.

use headroom_shared::Temperature;

/// The Pico 2 uses its supply as reference of the converter.
const REFERENCE_MICROVOLTS: i64 = 3_300_000;
/// The converter has 12 bits.
const STEPS: i64 = 1 << 12;

/// What a sample says. The sensor is a diode that has 0.706 V at 27 degrees Celsius, and 1.721 mV less for each degree
/// more (RP2350 datasheet, "Temperature sensor"). The chip has no calibration of its own: a supply that is 1 % off is
/// 4 degrees.
pub fn temperature(sample: u16) -> Temperature {
    let microvolts = i64::from(sample) * REFERENCE_MICROVOLTS / STEPS;
    let millidegrees = 27_000 - (microvolts - 706_000) * 1000 / 1721;
    // A sample of 16 bits is between -30,000 and 440 degrees.
    Temperature::from_millidegrees(millidegrees as i32)
}
