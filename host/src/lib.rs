//! Headroom's host side.
#![forbid(unsafe_code)]

pub mod calibration;
pub mod checkpoint;
pub mod executor;
pub mod importance;
pub mod ranking;
pub mod search;
