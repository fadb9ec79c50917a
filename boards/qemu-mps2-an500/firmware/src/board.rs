//! Serial line, clock and watchdog of the board: CMSDK peripherals (Arm DDI 0479), where QEMU 7.2, hw/arm/mps2.c, has
//! them.
#![expect(unsafe_code, reason = "peripherals and flash are at fixed addresses")]

use headroom_device::reading::Measurement;
use headroom_firmware::Board;
use headroom_shared::{Temperature, TimeSpan};

use crate::register::Register;

/// `clock_hertz` of the profile.
const CLOCK_HERTZ: u32 = 25_000_000;
const NANOSECONDS_PER_TICK: u64 = 1_000_000_000 / CLOCK_HERTZ as u64;

/// Longer than an inference of the largest model that fits, in ticks of the clock.
const WATCHDOG_TICKS: u32 = 60 * CLOCK_HERTZ;
/// What opens the watchdog's registers (Arm DDI 0479, WDOGLOCK).
const WATCHDOG_KEY: u32 = 0x1ACC_E551;

/// Of the state of a UART: a byte has come.
const RECEIVED: u32 = 1 << 1;

/// As warm as a room, until somebody says otherwise.
const ROOM: Temperature = Temperature::from_millidegrees(25_000);

/// The image: `bundle_flash` of the profile.
pub fn bundle_flash() -> &'static [u8] {
    const ADDRESS: usize = 0x0002_0000;
    const BYTES: usize = 0x003E_0000;
    // SAFETY: the profile's memory map and `memory.x` leave this memory to the image alone, the emulated board has it
    // (4 MiB at 0), and nothing writes to it while the firmware runs.
    unsafe { core::slice::from_raw_parts(core::ptr::without_provenance(ADDRESS), BYTES) }
}

/// The board.
pub struct An500 {
    data: Register,
    line_state: Register,
    timer_value: Register,
    watchdog_clear: Register,
    thermometer: Thermometer,
    /// The timer counts down; its last value and the ticks until then.
    last: u32,
    ticks: u64,
}

/// The board has none: whoever says how warm it is, on UART 0 or as a line of millidegrees on UART 1, is believed.
struct Thermometer {
    data: Register,
    line_state: Register,
    /// The digits of the line so far.
    line: i32,
    temperature: Temperature,
}

impl Thermometer {
    /// Takes a byte of UART 1, if one has come.
    fn listen(&mut self) {
        if self.line_state.read() & RECEIVED == 0 {
            return;
        }
        match self.data.read() as u8 {
            digit @ b'0'..=b'9' => self.line = self.line.saturating_mul(10).saturating_add((digit - b'0').into()),
            _ => self.temperature = Temperature::from_millidegrees(core::mem::take(&mut self.line)),
        }
    }
}

impl An500 {
    /// Starts the peripherals. To be called once.
    pub fn start() -> Self {
        // SAFETY: UART 0 and 1, timer 0 and the watchdog are at these addresses, and only this function names them.
        let at = |address| unsafe { Register::at(address) };
        let uart = |offset: usize| at(0x4000_4000 + offset);
        let second_uart = |offset: usize| at(0x4000_5000 + offset);
        // The least divisor that QEMU takes: an emulated line has no speed of its own.
        uart(0x10).write(16);
        second_uart(0x10).write(16);
        // Sending and receiving on, interrupts off.
        uart(0x08).write(0b11);
        second_uart(0x08).write(0b11);

        let timer = |offset: usize| at(0x4000_0000 + offset);
        timer(0x08).write(u32::MAX);
        timer(0x04).write(u32::MAX);
        timer(0x00).write(1);

        let watchdog = |offset: usize| at(0x4000_8000 + offset);
        watchdog(0xC00).write(WATCHDOG_KEY);
        watchdog(0x00).write(WATCHDOG_TICKS);
        // The first time that it runs out it only remembers, the second time it resets.
        watchdog(0x08).write(0b11);

        let timer_value = timer(0x04);
        Self {
            data: uart(0x00),
            line_state: uart(0x04),
            timer_value,
            watchdog_clear: watchdog(0x0C),
            thermometer: Thermometer {
                data: second_uart(0x00),
                line_state: second_uart(0x04),
                line: 0,
                temperature: ROOM,
            },
            last: timer_value.read(),
            ticks: 0,
        }
    }
}

impl Board for An500 {
    const NAME: &'static str = "qemu-mps2-an500";

    /// The timer runs out after 171 seconds, which is longer than an inference.
    fn now(&mut self) -> TimeSpan {
        let value = self.timer_value.read();
        self.ticks += u64::from(self.last.wrapping_sub(value));
        self.last = value;
        TimeSpan::from_nanoseconds(self.ticks * NANOSECONDS_PER_TICK)
    }

    fn read(&mut self) -> Option<u8> {
        self.thermometer.listen();
        (self.line_state.read() & RECEIVED != 0).then(|| self.data.read() as u8)
    }

    fn write(&mut self, bytes: &[u8]) {
        const FULL: u32 = 1 << 0;
        for &byte in bytes {
            while self.line_state.read() & FULL != 0 {}
            self.data.write(byte.into());
        }
    }

    fn temperature(&mut self) -> Measurement<Temperature> {
        Measurement::Measured(self.thermometer.temperature)
    }

    fn set_temperature(&mut self, temperature: Temperature) -> bool {
        self.thermometer.temperature = temperature;
        true
    }

    fn feed_watchdog(&mut self) {
        self.watchdog_clear.write(1);
    }
}
