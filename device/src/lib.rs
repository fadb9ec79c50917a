//! The elastic runtime of Headroom.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod budget;
#[cfg(feature = "std")]
pub mod bundle;
#[cfg(feature = "std")]
pub mod engine;
#[cfg(feature = "images")]
pub mod images;
#[cfg(feature = "std")]
pub mod model;
#[cfg(feature = "cli")]
pub mod program;
#[cfg(feature = "cli")]
pub mod run;
pub mod switch;
