//! For build scripts of firmware: tells the linker and the program where memory
//! is. The profile of the board, `board.toml`, is the only place that says so.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;
use std::{env, fs};

use toml::{Table, Value};

/// Reads `../board.toml`, and writes into `OUT_DIR`
///
/// - `memory.x`: firmware in `firmware_flash`, variables and stack in
///   `main_ram`, of which `stack_bytes` must be left for the stack; then
///   `sections`, which are for a linker script with more of them;
/// - `profile.rs`: `NAME`, `CLOCK_HERTZ`, and `BUNDLE_FLASH` and `SCRATCH_RAM`,
///   each a `headroom_firmware::MemoryRange`.
///
/// The package's binaries are linked with `memory.x` and the script of `cortex-m-rt`.
///
/// # Errors
/// The profile cannot be read, or a key of it is missing.
pub fn write(sections: &str) -> Result<(), Box<dyn Error>> {
    let profile = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../board.toml");
    println!("cargo::rerun-if-changed={}", profile.display());
    let text = fs::read_to_string(&profile).map_err(|error| format!("{}: {error}", profile.display()))?;
    let board: Table = text.parse()?;
    let microcontroller = Microcontroller(board["microcontroller"].as_table().ok_or("no table `microcontroller`")?);

    let (flash, ram) = (microcontroller.range("firmware_flash")?, microcontroller.range("main_ram")?);
    let stack = microcontroller.number("stack_bytes")?;
    let mut script = String::new();
    writeln!(script, "MEMORY\n{{")?;
    writeln!(script, "  FLASH : ORIGIN = {:#010x}, LENGTH = {:#x}", flash.address, flash.bytes)?;
    writeln!(script, "  RAM : ORIGIN = {:#010x}, LENGTH = {:#x}", ram.address, ram.bytes)?;
    writeln!(script, "}}\n{sections}")?;
    writeln!(
        script,
        "ASSERT(_stack_start - _stack_end >= {stack}, \"variables leave less than {stack} for the stack\")"
    )?;

    let name = board["name"].as_str().ok_or("`name` is no text")?;
    let mut constants = String::new();
    writeln!(constants, "const NAME: &str = {name:?};")?;
    writeln!(constants, "const CLOCK_HERTZ: u32 = {};", microcontroller.number("clock_hertz")?)?;
    for (constant, key) in [("BUNDLE_FLASH", "bundle_flash"), ("SCRATCH_RAM", "scratch_ram")] {
        let Range { address, bytes } = microcontroller.range(key)?;
        writeln!(
            constants,
            "const {constant}: headroom_firmware::MemoryRange = headroom_firmware::MemoryRange {{ address: {address:#x}, bytes: {bytes:#x} }};"
        )?;
    }

    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("memory.x"), script)?;
    fs::write(out.join("profile.rs"), constants)?;
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg-bins=-Tlink.x");
    Ok(())
}

struct Range {
    address: i64,
    bytes: i64,
}

/// The profile's table, whose entries have a `value` beside its origin and source.
struct Microcontroller<'a>(&'a Table);

impl Microcontroller<'_> {
    fn value(&self, key: &str) -> Result<&Value, String> {
        self.0.get(key).and_then(|entry| entry.get("value")).ok_or(format!("`microcontroller.{key}` has no value"))
    }

    fn number(&self, key: &str) -> Result<i64, String> {
        self.value(key)?.as_integer().ok_or(format!("`microcontroller.{key}` is no number"))
    }

    fn range(&self, key: &str) -> Result<Range, String> {
        let part = |part| {
            let number = self.value(key)?.get(part).and_then(Value::as_integer);
            number.ok_or(format!("`microcontroller.{key}` has no {part}"))
        };
        Ok(Range { address: part("address")?, bytes: part("bytes")? })
    }
}
