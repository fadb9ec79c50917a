//! The temperature sensor inside the STM32H743.
#![expect(unsafe_code, reason = "the factory's calibration is at fixed addresses")]

use embassy_stm32::Peri;
use embassy_stm32::adc::{Adc, SampleTime, Temperature as TemperatureSensor, VrefInt};
use embassy_stm32::peripherals::ADC3;
use headroom_device::reading::{Measurement, Missing};
use headroom_shared::Temperature;

/// The sensor needs 9 us (DS12110, temperature sensor characteristics); this is 25 us at 32 MHz.
const SAMPLE_TIME: SampleTime = SampleTime::CYCLES810_5;

/// What the factory read of the chip at 3.3 V, in 16 bits (DS12110, tables of calibration values).
#[derive(Clone, Copy)]
struct Calibration {
    /// The sensor at 30 and at 110 degrees Celsius.
    at_30: i64,
    at_110: i64,
    /// The internal reference voltage.
    reference: i64,
}

impl Calibration {
    fn read() -> Self {
        let word = |address: usize| {
            let word: *const u16 = core::ptr::without_provenance(address);
            // SAFETY: every STM32H743 has a calibration word at each of these addresses (DS12110; stm32h7xx-hal
            // 0.16.0, `signature.rs`), and none can change.
            i64::from(unsafe { word.read_volatile() })
        };
        Self { at_30: word(0x1FF1_E820), at_110: word(0x1FF1_E840), reference: word(0x1FF1_E860) }
    }

    /// RM0433, "Temperature sensor": a line through both calibration points. Both readings are taken at the same
    /// supply, so that their ratio says what the sensor would have read at 3.3 V.
    fn temperature(self, sensor: u16, reference: u16) -> Option<Temperature> {
        let at_factory_supply = (i64::from(sensor) * self.reference).checked_div(reference.into())?;
        let above_30 = ((at_factory_supply - self.at_30) * 80_000).checked_div(self.at_110 - self.at_30)?;
        Some(Temperature::from_millidegrees(i32::try_from(30_000 + above_30).ok()?))
    }
}

/// The sensor, its converter and its calibration.
pub struct Thermometer {
    converter: Adc<'static, ADC3>,
    sensor: TemperatureSensor,
    reference: VrefInt,
    calibration: Calibration,
}

impl Thermometer {
    /// Starts the converter.
    pub fn start(converter: Peri<'static, ADC3>) -> Self {
        let converter = Adc::new(converter);
        let (sensor, reference) = (converter.enable_temperature(), converter.enable_vrefint());
        Self { converter, sensor, reference, calibration: Calibration::read() }
    }

    /// Takes about 60 us.
    pub fn read(&mut self) -> Measurement<Temperature> {
        let sensor = self.converter.blocking_read(&mut self.sensor, SAMPLE_TIME);
        let reference = self.converter.blocking_read(&mut self.reference, SAMPLE_TIME);
        let temperature = self.calibration.temperature(sensor, reference);
        temperature.map_or(Measurement::Missing(Missing::Malformed), Measurement::Measured)
    }
}
