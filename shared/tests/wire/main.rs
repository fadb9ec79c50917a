//! The wire format as its users see it.

mod golden;
mod properties;
mod refusals;
