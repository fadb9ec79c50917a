//! The integer model as its users see it: the format and its refusals.

mod damage;
mod golden;
mod sample;
