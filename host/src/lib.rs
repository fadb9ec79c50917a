//! Headroom's host side.
#![forbid(unsafe_code)]

pub mod boards;
pub mod bundle;
pub mod calibration;
pub mod checkpoint;
pub mod demo;
pub mod executor;
pub mod importance;
pub mod progress;
pub mod ranking;
pub mod search;
