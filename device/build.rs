//! Says whether the target has the DSP instructions of Arm's microcontrollers, which stable compilers do not tell:
//! every Armv7E-M has them (Cortex-M4 and M7), and an Armv8-M may (Cortex-M33, if the compiler is told that it is one).

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(arm_dsp)");
    let target = var("TARGET").unwrap_or_default();
    let flags = var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let told = flags.contains("target-cpu=cortex-m33") || flags.contains("+dsp");
    if target.starts_with("thumbv7em-") || (target.starts_with("thumbv8m.main-") && told) {
        println!("cargo::rustc-cfg=arm_dsp");
    }
}
