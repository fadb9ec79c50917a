//! Tells the linker and the program what the profile says of memory.

/// Behind the vectors, within the first 4 KiB of flash, where the chip's boot program looks for what it should start
/// (RP2350 datasheet, "Image definition").
const START_BLOCK: &str = "
SECTIONS
{
  .start_block : ALIGN(4)
  {
    KEEP(*(.start_block));
  } > FLASH
} INSERT AFTER .vector_table;
_stext = ADDR(.start_block) + SIZEOF(.start_block);
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rustc-link-arg-bins=-Tdefmt.x");
    headroom_memory_map::write(START_BLOCK)
}
