//! `host-flash`: the protocol on a local shell, where it can be cut anywhere,
//! and the whole program against a real OpenSSH server.

mod cuts;
mod device;
mod installation;
mod local_shell;
mod over_ssh;
mod packed;
mod refusals;
mod server;
mod trust;

#[path = "../../../device/tests/random_bundle/mod.rs"]
mod random_bundle;
#[path = "../../../device/tests/random_model/mod.rs"]
mod random_model;
