//! Clocks, serial line, clock of the application and watchdog of the board.
#![expect(unsafe_code, reason = "flash and scratch memory are at fixed addresses")]

use embassy_rp::adc::{Adc, Blocking, Channel};
use embassy_rp::peripherals::UART0;
use embassy_rp::uart::{self, BufferedUart};
use embassy_rp::watchdog::Watchdog;
use embassy_rp::{adc, bind_interrupts, clocks};
use embassy_time::{Duration, Instant};
use embedded_io::{Read, ReadReady, Write};
use headroom_device::reading::{Measurement, Missing};
use headroom_firmware::Board;
use headroom_shared::{Temperature, TimeSpan};
use static_cell::ConstStaticCell;

use crate::thermometer::temperature;

include!(concat!(env!("OUT_DIR"), "/profile.rs"));

const BAUD: u32 = 115_200;

/// Longer than an inference of the largest model that fits; the watchdog counts 16.7 s at most.
const WATCHDOG: Duration = Duration::from_secs(16);

/// Bytes that came and are not read yet: a frame arrives while another one is inferred.
static ARRIVED: ConstStaticCell<[u8; 16 * 1024]> = ConstStaticCell::new([0; 16 * 1024]);
/// Bytes on their way out.
static LEAVING: ConstStaticCell<[u8; 1024]> = ConstStaticCell::new([0; 1024]);

bind_interrupts!(struct Interrupts {
    UART0_IRQ => uart::BufferedInterruptHandler<UART0>;
});

/// The board.
pub struct Pico2 {
    line: BufferedUart,
    converter: Adc<'static, Blocking>,
    sensor: Channel<'static>,
    watchdog: Watchdog,
}

impl Pico2 {
    /// Starts the board, and gives the image's flash and the engine's scratch memory.
    ///
    /// # Panics
    /// When it is called again.
    pub fn start() -> (Self, &'static [u8], &'static mut [u8]) {
        // 150 MHz from the crystal of 12 MHz, which the Pico 2 has.
        let peripherals = embassy_rp::init(embassy_rp::config::Config::default());
        defmt::assert_eq!(clocks::clk_sys_freq(), CLOCK_HERTZ);
        let mut watchdog = Watchdog::new(peripherals.WATCHDOG);
        let by_watchdog = watchdog.reset_reason().is_some();
        defmt::info!("{=str} at {=u32} Hz, started by the watchdog: {=bool}", NAME, CLOCK_HERTZ, by_watchdog);

        let mut settings = uart::Config::default();
        settings.baudrate = BAUD;
        let line = BufferedUart::new(
            peripherals.UART0,
            peripherals.PIN_0,
            peripherals.PIN_1,
            Interrupts,
            LEAVING.take(),
            ARRIVED.take(),
            settings,
        );

        // A debugger that stops the core stops the watchdog too: else it would reset the board while flash is written.
        watchdog.pause_on_debug(true);
        watchdog.start(WATCHDOG);

        let converter = Adc::new_blocking(peripherals.ADC, adc::Config::default());
        let sensor = Channel::new_temp_sensor(peripherals.ADC_TEMP_SENSOR);
        let board = Self { line, converter, sensor, watchdog };
        // SAFETY: the Pico 2 has both (4 MiB of flash at 0x1000_0000, 512 KiB of RAM at 0x2000_0000; RP2350 datasheet,
        // address map), nothing writes to flash while this program runs, the linker knows neither, and this function
        // gives them away once: `embassy_rp::init` panics the second time.
        unsafe { (board, headroom_firmware::flash(BUNDLE_FLASH), headroom_firmware::ram(SCRATCH_RAM)) }
    }
}

impl Board for Pico2 {
    const NAME: &'static str = NAME;

    /// Since reset: the chip's counter of microseconds, of 64 bits.
    fn now(&mut self) -> TimeSpan {
        TimeSpan::from_nanoseconds(Instant::now().as_micros() * 1000)
    }

    fn read(&mut self) -> Option<u8> {
        let mut byte = [0];
        let ready = self.line.read_ready().unwrap_or(false);
        (ready && self.line.read(&mut byte).is_ok_and(|read| read == 1)).then_some(byte[0])
    }

    fn write(&mut self, bytes: &[u8]) {
        // A line that only buffers has no errors of its own.
        let _ = self.line.write_all(bytes);
    }

    fn temperature(&mut self) -> Measurement<Temperature> {
        match self.converter.blocking_read(&mut self.sensor) {
            Ok(sample) => Measurement::Measured(temperature(sample)),
            Err(_) => Measurement::Missing(Missing::Malformed),
        }
    }

    fn feed_watchdog(&mut self) {
        self.watchdog.feed(WATCHDOG);
    }
}
