//! Computations that are compiled for each instruction set.

/// A computation in plain Rust.
///
/// `run` and all that it calls must be `#[inline(always)]`: only what is inlined into the entry function of an
/// instruction set is compiled with its instructions. Its bits do not depend on them. A microcontroller has one
/// instruction set and little flash: without `std`, what is long and is called in several places is a function.
pub(super) trait Kernel {
    fn run(self);
}
