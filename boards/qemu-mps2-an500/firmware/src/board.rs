//! Serial line, clock and watchdog of the board: CMSDK peripherals (Arm DDI 0479), where QEMU 7.2, hw/arm/mps2.c, has
//! them.
#![expect(unsafe_code, reason = "peripherals and flash are at fixed addresses")]

use headroom_device::reading::Measurement;
use headroom_firmware::Board;
use headroom_shared::{Temperature, TimeSpan};
use static_cell::ConstStaticCell;

use crate::register::Register;

include!(concat!(env!("OUT_DIR"), "/profile.rs"));

const NANOSECONDS_PER_TICK: u64 = 1_000_000_000 / CLOCK_HERTZ as u64;

/// Longer than an inference of the largest model that fits, in ticks of the clock.
const WATCHDOG_TICKS: u32 = 60 * CLOCK_HERTZ;
/// What opens the watchdog's registers (Arm DDI 0479, WDOGLOCK).
const WATCHDOG_KEY: u32 = 0x1ACC_E551;

/// Of the state of a UART: a byte has come.
const RECEIVED: u32 = 1 << 1;

/// As warm as a room, until somebody says otherwise.
const ROOM: Temperature = Temperature::from_millidegrees(25_000);

/// Timer 0, which counts down.
const TIMER: usize = 0x4000_0000;

// Starts the clock with the first instructions after reset, before any variable has its value: cortex-m-rt calls
// `__pre_init`. Reload value, value and control of the timer (Arm DDI 0479).
core::arch::global_asm!(
    ".section .text.__pre_init, \"ax\"",
    ".global __pre_init",
    ".type __pre_init, %function",
    ".thumb_func",
    "__pre_init:",
    "mov r0, #{timer}",
    "mov r1, #-1",
    "str r1, [r0, #8]",
    "str r1, [r0, #4]",
    "mov r1, #1",
    "str r1, [r0]",
    "bx lr",
    timer = const TIMER,
);

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
    /// Starts the peripherals, and gives the image's flash and the engine's scratch memory.
    ///
    /// # Panics
    /// When it is called again.
    pub fn start() -> (Self, &'static [u8], &'static mut [u8]) {
        static ONCE: ConstStaticCell<()> = ConstStaticCell::new(());
        let _: &mut () = ONCE.take();
        // SAFETY: UART 0 and 1, timer 0 and the watchdog are at these addresses, and this function, which gets here once, is
        // all that names them but for `__pre_init`, which has ended.
        let at = |address| unsafe { Register::at(address) };
        let uart = |offset: usize| at(0x4000_4000 + offset);
        let second_uart = |offset: usize| at(0x4000_5000 + offset);
        // The least divisor that QEMU takes: an emulated line has no speed of its own.
        uart(0x10).write(16);
        second_uart(0x10).write(16);
        // Sending and receiving on, interrupts off.
        uart(0x08).write(0b11);
        second_uart(0x08).write(0b11);

        let watchdog = |offset: usize| at(0x4000_8000 + offset);
        watchdog(0xC00).write(WATCHDOG_KEY);
        watchdog(0x00).write(WATCHDOG_TICKS);
        // The first time that it runs out it only remembers, the second time it resets.
        watchdog(0x08).write(0b11);

        let board = Self {
            data: uart(0x00),
            line_state: uart(0x04),
            timer_value: at(TIMER + 0x04),
            watchdog_clear: watchdog(0x0C),
            thermometer: Thermometer {
                data: second_uart(0x00),
                line_state: second_uart(0x04),
                line: 0,
                temperature: ROOM,
            },
            last: u32::MAX,
            ticks: 0,
        };
        // SAFETY: the emulated board has both (4 MiB at 0, 4 MiB at 0x2000_0000), nothing writes to flash, the linker
        // knows neither, and this function gives them away once.
        unsafe { (board, headroom_firmware::flash(BUNDLE_FLASH), headroom_firmware::ram(SCRATCH_RAM)) }
    }
}

impl Board for An500 {
    const NAME: &'static str = NAME;

    /// Since reset. The timer runs out after 171 seconds, which is longer than an inference.
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
