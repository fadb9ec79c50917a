//! The contract between Headroom's host and device.
//!
//! Everything that both sides must agree on, and nothing else: the shape of a
//! model, what a step of the ranking removes, what a sub-network costs, the
//! structure map that is shipped, the profile of a board and the units of
//! measured quantities. No heap, no input or output, no `std`.
//!
//! Feature `std` adds the reader of `board.toml` files and the writers
//! of integer models and flash images.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

pub mod board;
#[cfg(feature = "std")]
pub mod board_file;
mod checksum;
pub mod cost;
pub mod fixed_capacity;
pub mod flash_image;
pub mod integer_model;
pub mod ladder;
pub mod origin;
pub mod roofline;
pub mod rung;
pub mod shape;
pub mod step;
pub mod structure_map;
pub mod sub_network;
pub mod units;
pub mod wire;

#[cfg(test)]
mod fixtures;

pub use board::BoardProfile;
pub use fixed_capacity::{List, Text};
pub use flash_image::{FlashImage, FlashImageError};
pub use integer_model::{IntegerModel, IntegerModelError};
pub use ladder::{Ladder, LadderError, MAX_RUNGS};
pub use origin::{Origin, Sourced};
pub use roofline::{Prediction, Roofline, Work};
pub use rung::Rung;
pub use shape::{MAX_BLOCKS, MlpKind, ModelShape, NEURON_QUANTUM, ShapeError};
pub use step::{Step, StepKind};
pub use structure_map::{StructureMap, StructureMapError};
pub use sub_network::{CountsError, KeptStructures, ReplayError, StepError, SubNetwork, TokenScheduleError};
pub use units::{Energy, Frequency, Power, Temperature, TimeSpan};
