//! The loader and the writer through their public interface.

mod fixtures;
mod malformed;
mod permutation;
mod tiny;
