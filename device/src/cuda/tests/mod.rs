//! What can be proved of the GPU engine without a GPU.
//!
//! `emulation` compiles the C that the kernels are made of with the C compiler of this machine; `twin`
//! is each kernel again in plain Rust; `interpreter` runs a table with either.

mod emulation;
mod interpreter;
mod kernels;
mod tables;
mod twin;
