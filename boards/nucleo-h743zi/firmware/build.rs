//! Tells the linker and the program what the profile says of memory.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rustc-link-arg-bins=-Tdefmt.x");
    headroom_memory_map::write("")
}
