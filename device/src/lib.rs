//! The elastic runtime of Headroom: what a device runs.
//!
//! The core needs neither an operating system nor a heap: choosing the rung
//! for a [`budget`], [`switch`]ing to it, and the [`governor`] that turns
//! [`reading`]s into it, and the [`integer`] engine. Feature `std` adds the [`model`], its CPU [`engine`],
//! [`bundle`]s and a [`rung_engine`] for both precisions, feature `images` the decoding and preprocessing of image
//! files, feature `serve` metrics and word to the service manager, feature
//! `c-abi` the interface for C, feature `cli` the program `device-run`, feature
//! `replay` a simulated board and the program `device-replay`. A build for a
//! device links no importer of checkpoints and no optimiser, and without
//! `images` no image decoder.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

pub mod budget;
#[cfg(feature = "std")]
pub mod bundle;
#[cfg(feature = "c-abi")]
pub mod c_abi;
#[cfg(feature = "std")]
pub mod calibration;
mod coefficients;
pub mod corrected;
#[cfg(any(feature = "cuda", all(test, feature = "std")))]
pub mod cuda;
#[cfg(feature = "std")]
pub mod engine;
#[cfg(feature = "std")]
pub mod error_text;
#[cfg(feature = "std")]
pub mod flight_record;
pub mod governor;
#[cfg(feature = "images")]
pub mod images;
pub mod integer;
#[cfg(feature = "std")]
pub mod limits_file;
#[cfg(feature = "std")]
pub mod lock;
#[cfg(feature = "std")]
pub mod measured_profile;
#[cfg(feature = "serve")]
pub mod metrics;
#[cfg(feature = "std")]
pub mod model;
#[cfg(feature = "replay")]
pub mod plant;
#[cfg(feature = "std")]
pub mod precision;
#[cfg(feature = "cli")]
pub mod program;
pub mod reading;
#[cfg(feature = "replay")]
pub mod replay;
#[cfg(feature = "cli")]
pub mod run;
#[cfg(feature = "std")]
pub mod rung_engine;
#[cfg(feature = "std")]
pub mod runtime;
#[cfg(feature = "cli")]
pub mod serve;
#[cfg(feature = "serve")]
pub mod service;
#[cfg(feature = "std")]
pub mod sources;
#[cfg(feature = "serve")]
pub mod supervisor_link;
pub mod switch;
#[cfg(feature = "std")]
pub mod whole_file;

// The tests of the engine share their random models with the integration tests and benches.
#[cfg(test)]
extern crate self as headroom_device;
