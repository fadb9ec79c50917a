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
use headroom_firmware::{Memory, run};
use static_cell::ConstStaticCell;

use board::An500;

static RECEIVED: ConstStaticCell<[u8; 32 * 1024]> = ConstStaticCell::new([0; 32 * 1024]);
static SENT: ConstStaticCell<[u8; 16 * 1024]> = ConstStaticCell::new([0; 16 * 1024]);
static OUTPUTS: ConstStaticCell<[f32; 3 * 1024]> = ConstStaticCell::new([0.0; 3 * 1024]);

#[entry]
fn main() -> ! {
    let (board, region, arena) = An500::start();
    let (received, sent, outputs) = (RECEIVED.take(), SENT.take(), OUTPUTS.take());
    run(board, Memory { region, arena, received, sent, outputs })
}

/// The watchdog is not fed any more, so that the board begins anew.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
