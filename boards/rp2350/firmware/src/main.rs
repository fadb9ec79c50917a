//! Firmware for the Raspberry Pi Pico 2.
//!
//! The serial line is UART0 at GP0 and GP1. The log is defmt over RTT. The only
//! interrupt is that of the serial line. The second core sleeps.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod board;
mod thermometer;

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use defmt_rtt as _;
use headroom_firmware::run;

use board::Pico2;

#[entry]
fn main() -> ! {
    let (board, region, arena) = Pico2::start();
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
