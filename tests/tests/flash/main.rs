//! `host-flash`: the protocol on a local shell, where it can be cut anywhere,
//! and the whole program against a real OpenSSH server.

mod cuts;
mod device;
mod installation;
mod local_shell;
mod over_ssh;
mod refusals;
mod server;
