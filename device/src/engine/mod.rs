//! The elastic CPU engine.
