//! `device-run --serve` as its users run it: a service with clients, signals and bad input.

mod board;
mod clients;
mod debian_package;
mod ends;
mod inputs;
mod reload;
mod server;
mod supervisor;

#[path = "../../../device/tests/random_bundle/mod.rs"]
mod random_bundle;
#[path = "../../../device/tests/random_model/mod.rs"]
mod random_model;
#[path = "../../trees/mod.rs"]
mod trees;
