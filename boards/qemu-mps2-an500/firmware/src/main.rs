//! Firmware for the Arm MPS2 board with the Cortex-M7 image AN500, as QEMU
//! emulates it: what every board does, without hardware.
//!
//! The serial line is UART 0. The board has no thermometer: whoever talks to it
//! says how warm it is. No interrupt is used.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod board;
mod register;

use core::panic::PanicInfo;

use cortex_m_rt::entry;
use headroom_firmware::run;

use board::An500;

#[entry]
fn main() -> ! {
    let (board, region, arena) = An500::start();
    run(board, region, arena)
}

/// The watchdog is not fed any more, so that the board begins anew.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
