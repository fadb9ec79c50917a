//! Headroom's host side.
#![forbid(unsafe_code)]

pub mod boards;
pub mod bundle;
pub mod calibration;
pub mod checkpoint;
pub mod demo;
pub mod embedder;
pub mod executor;
pub mod importance;
pub mod interrupt;
pub mod ladder;
pub mod progress;
pub mod prune;
pub mod ranking;
pub mod search;
pub mod shape;
