//! Clocks, serial line, clock of the application and watchdog of the board.
#![expect(unsafe_code, reason = "flash and scratch memory are at fixed addresses")]

use embassy_stm32::peripherals::{IWDG1, TIM2, USART3};
use embassy_stm32::rcc::{AHBPrescaler, APBPrescaler, Pll, PllDiv, PllMul, PllPreDiv, PllSource, Sysclk, VoltageScale};
use embassy_stm32::time::Hertz;
use embassy_stm32::timer::low_level::Timer;
use embassy_stm32::usart::{self, BufferedUart};
use embassy_stm32::wdg::IndependentWatchdog;
use embassy_stm32::{bind_interrupts, pac, rcc};
use embedded_io::{Read, ReadReady, Write};
use headroom_device::reading::Measurement;
use headroom_firmware::Board;
use headroom_shared::{Temperature, TimeSpan};
use static_cell::ConstStaticCell;

use crate::thermometer::Thermometer;

include!(concat!(env!("OUT_DIR"), "/profile.rs"));

const BAUD: u32 = 115_200;

/// Longer than an inference of the largest model that fits. The watchdog's own oscillator may be a tenth faster or
/// slower, and it counts 32.7 s at most (RM0433, independent watchdog).
const WATCHDOG_MICROSECONDS: u32 = 30_000_000;

/// Bytes that came and are not read yet: a frame arrives while another one is inferred.
static ARRIVED: ConstStaticCell<[u8; 16 * 1024]> = ConstStaticCell::new([0; 16 * 1024]);
/// Bytes on their way out.
static LEAVING: ConstStaticCell<[u8; 1024]> = ConstStaticCell::new([0; 1024]);

bind_interrupts!(struct Interrupts {
    USART3 => usart::BufferedInterruptHandler<USART3>;
});

/// The board.
pub struct NucleoH743zi {
    line: BufferedUart<'static>,
    /// Counts microseconds, and begins anew after 71 minutes.
    timer: Timer<'static, TIM2>,
    last: u32,
    microseconds: u64,
    thermometer: Thermometer,
    watchdog: IndependentWatchdog<'static, IWDG1>,
}

impl NucleoH743zi {
    /// Starts the board, and gives the image's flash and the engine's scratch memory.
    ///
    /// # Panics
    /// When it is called again.
    pub fn start() -> (Self, &'static [u8], &'static mut [u8]) {
        let peripherals = embassy_stm32::init(configuration());
        enable_caches();
        let by_watchdog = pac::RCC.rsr().read().iwdg1rstf();
        pac::RCC.rsr().modify(|flags| flags.set_rmvf(true));
        defmt::info!("{=str} at {=u32} Hz, started by the watchdog: {=bool}", NAME, CLOCK_HERTZ, by_watchdog);

        let mut settings = usart::Config::default();
        settings.baudrate = BAUD;
        // PD8 and PD9 lead to the ST-LINK (UM2407, virtual COM port).
        let line = BufferedUart::new(
            peripherals.USART3,
            peripherals.PD9,
            peripherals.PD8,
            LEAVING.take(),
            ARRIVED.take(),
            Interrupts,
            settings,
        );
        // The pins have this function, and 115,200 can be had from 120 MHz.
        let line = line.unwrap_or_else(|_| defmt::panic!("USART3 refuses its settings"));

        let mut timer = Timer::new(peripherals.TIM2);
        timer.set_max_compare_value(u32::MAX);
        timer.set_tick_freq(Hertz::mhz(1));
        timer.start();

        // A debugger that stops the core stops the watchdog too: else it would reset the board while flash is written.
        pac::DBGMCU.apb4fzr1().modify(|frozen| frozen.set_iwdg1(true));
        let mut watchdog = IndependentWatchdog::new(peripherals.IWDG1, WATCHDOG_MICROSECONDS);
        watchdog.unleash();

        let thermometer = Thermometer::start(peripherals.ADC3);
        let board = Self { line, timer, last: 0, microseconds: 0, thermometer, watchdog };
        // SAFETY: the chip has both (RM0433, memory map), nothing writes to flash while this program runs, the linker
        // knows neither, and this function gives them away once: `embassy_stm32::init` panics the second time.
        unsafe { (board, headroom_firmware::flash(BUNDLE_FLASH), headroom_firmware::ram(SCRATCH_RAM)) }
    }
}

/// 480 MHz from the internal oscillator of 64 MHz, which needs nothing of the board. Chips before revision V reach
/// 400 MHz only (DS12110); the NUCLEO-H743ZI2 has later ones.
fn configuration() -> embassy_stm32::Config {
    const { assert!(CLOCK_HERTZ == 64_000_000 / 4 * 60 / 2) };
    let mut configuration = embassy_stm32::Config::default();
    configuration.rcc.pll1 = Some(Pll {
        source: PllSource::HSI,
        prediv: PllPreDiv::DIV4,
        mul: PllMul::MUL60,
        fracn: None,
        divp: Some(PllDiv::DIV2),
        divq: None,
        divr: None,
    });
    configuration.rcc.sys = Sysclk::PLL1_P;
    configuration.rcc.voltage_scale = VoltageScale::Scale0;
    // Bus of the memories at 240 MHz, peripherals at 120 MHz: the most that they bear (DS12110).
    configuration.rcc.ahb_pre = AHBPrescaler::DIV2;
    configuration.rcc.apb1_pre = APBPrescaler::DIV2;
    configuration.rcc.apb2_pre = APBPrescaler::DIV2;
    configuration.rcc.apb3_pre = APBPrescaler::DIV2;
    configuration.rcc.apb4_pre = APBPrescaler::DIV2;
    // The converter's clock: the oscillator, which the driver divides.
    configuration.rcc.mux.adcsel = rcc::mux::Adcsel::PER;
    configuration
}

/// Weights come from flash, and activations from the AXI SRAM: both are slow without their cache. No device but the
/// core reads or writes memory, so that nothing else sees what is in a cache only.
fn enable_caches() {
    // Nobody else needs the core's peripherals: the first call gets them.
    if let Some(mut core) = cortex_m::Peripherals::take() {
        core.SCB.enable_icache();
        core.SCB.enable_dcache(&mut core.CPUID);
    }
}

impl Board for NucleoH743zi {
    const NAME: &'static str = NAME;

    fn now(&mut self) -> TimeSpan {
        let value = self.timer.regs_gp32().cnt().read();
        self.microseconds += u64::from(value.wrapping_sub(self.last));
        self.last = value;
        TimeSpan::from_nanoseconds(self.microseconds * 1000)
    }

    fn read(&mut self) -> Option<u8> {
        let mut byte = [0];
        let ready = self.line.read_ready().unwrap_or(false);
        (ready && self.line.read(&mut byte) == Ok(1)).then_some(byte[0])
    }

    fn write(&mut self, bytes: &[u8]) {
        // A line that only buffers has no errors of its own.
        let _ = self.line.write_all(bytes);
    }

    fn temperature(&mut self) -> Measurement<Temperature> {
        self.thermometer.read()
    }

    fn feed_watchdog(&mut self) {
        self.watchdog.pet();
    }
}
