//! The contract between Headroom's host and device.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

pub mod shape;
pub mod sub_network;

pub use shape::{MlpKind, ModelShape};
pub use sub_network::{KeptStructures, SubNetwork};
