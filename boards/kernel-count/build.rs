//! Tells the linker where memory is on the emulated board of each processor.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let cortex_m33 = env::var("TARGET")?.starts_with("thumbv8m");
    // QEMU 7.2: hw/arm/mps2.c (AN500: 25 MHz), hw/arm/mps2-tz.c (AN505, as its secure side sees memory: 20 MHz).
    let (flash, ram, nanoseconds) = if cortex_m33 { (0x1000_0000, 0x3800_0000, 50) } else { (0, 0x2000_0000, 40) };
    let script =
        format!("MEMORY\n{{\n  FLASH : ORIGIN = {flash:#x}, LENGTH = 1M\n  RAM : ORIGIN = {ram:#x}, LENGTH = 1M\n}}\n");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("memory.x"), script)?;
    fs::write(out.join("instructions_per_tick"), nanoseconds.to_string())?;
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}
