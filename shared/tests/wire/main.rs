//! The wire format as its users see it.

mod companion;
mod golden;
mod properties;
mod refusals;
