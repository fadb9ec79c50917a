//! Counts the instructions of a matrix product as the engine computes it, and
//! compares its bits with those of the definition; too many instructions or a
//! wrong bit are a failure. For a Cortex-M under QEMU with `-icount shift=0`,
//! where a nanosecond is an instruction; the figures go out by semihosting.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::panic::PanicInfo;

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};
use headroom_device::integer::SingleProduct;
use headroom_shared::integer_model::IntegerLinear;
use static_cell::ConstStaticCell;

/// The layer: the first one of an MLP of a ViT of width 192, for the tokens of the demo model.
const TOKENS: usize = 65;
const COLUMNS: usize = 192;
const OUTPUTS: usize = 768;

/// Nanoseconds in a tick of the processor's clock, as `build.rs` knows it of the emulated board.
const INSTRUCTIONS_PER_TICK: u64 = include!(concat!(env!("OUT_DIR"), "/instructions_per_tick"));

/// Goal, in thousandths of an instruction for each multiply-accumulate.
const MOST_THOUSANDTHS: u64 = 1200;

static WEIGHTS: ConstStaticCell<[u8; OUTPUTS * COLUMNS]> = ConstStaticCell::new([0; OUTPUTS * COLUMNS]);
static SCALES: ConstStaticCell<[[u8; 4]; OUTPUTS]> = ConstStaticCell::new([[0; 4]; OUTPUTS]);
static ARENA: ConstStaticCell<[u32; 64 * 1024]> = ConstStaticCell::new([0; 64 * 1024]);

#[entry]
fn main() -> ! {
    let mut random = Random(1);
    let (weights, scales) = (WEIGHTS.take(), SCALES.take());
    weights.fill_with(|| random.byte());
    scales.fill_with(|| (f32::from(random.byte()) + 1.0).to_le_bytes());
    let layer = IntegerLinear::new(COLUMNS, weights, scales, scales);
    let product = layer.and_then(|layer| SingleProduct::new(layer, TOKENS, || random.byte(), ARENA.take()));
    let (Some(mut product), Some(core)) = (product, cortex_m::Peripherals::take()) else {
        fail("the product does not fit");
    };
    let mut timer = core.SYST;
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(0x00ff_ffff);
    timer.clear_current();
    timer.enable_counter();

    let start = cortex_m::peripheral::SYST::get_current();
    product.run();
    let ticks = start.wrapping_sub(cortex_m::peripheral::SYST::get_current()) & 0x00ff_ffff;
    let wrong = product.wrong();
    let (instructions, macs) = (u64::from(ticks) * INSTRUCTIONS_PER_TICK, product.macs());
    let thousandths = instructions * 1000 / macs;
    hprintln!(
        "{} x {} -> {}: {} MACs, {} instructions, {} wrong results",
        TOKENS,
        COLUMNS,
        OUTPUTS,
        macs,
        instructions,
        wrong
    );
    hprintln!("{}.{:03} instructions a MAC", thousandths / 1000, thousandths % 1000);
    let good = wrong == 0 && thousandths <= MOST_THOUSANDTHS;
    debug::exit(if good { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    loop {}
}

/// A linear congruential generator (Numerical Recipes, `ranqd1`); the highest bits are the good ones.
struct Random(u32);

impl Random {
    fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 24) as u8
    }
}

fn fail(why: &str) -> ! {
    hprintln!("{}", why);
    debug::exit(debug::EXIT_FAILURE);
    loop {}
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    fail("panic")
}
