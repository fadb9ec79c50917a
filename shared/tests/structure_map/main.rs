//! The structure map as its users see it: the format, its refusals, its rankings.

mod damage;
mod golden;
mod ranking_properties;
mod refusals;
mod sample;
