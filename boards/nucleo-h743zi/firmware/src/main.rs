//! Firmware for the ST NUCLEO-H743ZI2.
//!
//! The serial line is USART3, which the ST-LINK of the board passes on over
//! USB. The log is defmt over RTT. The only interrupt is that of the serial
//! line.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod board;
mod thermometer;

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use defmt_rtt as _;
use headroom_firmware::run;

use board::NucleoH743zi;

#[entry]
fn main() -> ! {
    let (board, region, arena) = NucleoH743zi::start();
    run(board, region, arena)
}

/// Ends in the hard fault, where the watchdog is not fed any more, so that the board begins anew. A debugger stops there
/// and shows the stack: what a panic says would need 20 KiB of flash.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    cortex_m::interrupt::disable();
    defmt::error!("panic");
    cortex_m::asm::udf()
}
