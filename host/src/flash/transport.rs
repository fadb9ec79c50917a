//! How scripts reach a device: a small trait, so that the protocol can be
//! tested without a network and cut at every step.

use std::io::{self, Read};
use std::time::Duration;

use super::child::Held;
use super::script::Script;

/// What a script did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// The values of the lines that begin with this word.
    pub fn values<'a>(&'a self, word: &str) -> impl Iterator<Item = &'a str> {
        self.stdout.lines().filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' ').map(str::trim))
    }

    /// The first value of this word that is not empty.
    #[must_use]
    pub fn value(&self, word: &str) -> Option<&str> {
        self.values(word).find(|value| !value.is_empty())
    }
}

/// A script and what it gets.
pub struct Call<'a> {
    pub script: Script,
    /// The root of the device comes first.
    pub arguments: &'a [&'a str],
    /// After so long without an end the call is given up; `None` waits for as
    /// long as the connection lives.
    pub limit: Option<Duration>,
}

/// How the answers of scripts that are held begin.
pub const ANSWERS: [&str; 2] = ["taken ", "locked "];

/// Runs scripts on one device.
pub trait Transport: Sync {
    /// Runs a script to its end, with `input` as its stdin.
    ///
    /// # Errors
    /// If the device cannot be reached or the connection ends. A script that
    /// fails is no error here.
    fn run(&self, call: &Call<'_>, input: &mut dyn Read) -> Result<Output, TransportError>;

    /// Starts a script that lives until its stdin is closed, and waits for its
    /// answer, one of [`ANSWERS`].
    ///
    /// # Errors
    /// If the device cannot be reached or the connection ends.
    fn hold(&self, call: &Call<'_>) -> Result<Held, TransportError>;
}

/// Why a device was not reached, or not any more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    #[error("there is no program `ssh` on this machine")]
    NoSsh,
    #[error("the name cannot be resolved: {message}")]
    UnknownHost { message: String },
    #[error("the host cannot be reached: {message}")]
    Unreachable { message: String },
    #[error("the host key is not known: {message}")]
    UnknownHostKey { message: String },
    #[error("the host key has changed: {message}")]
    ChangedHostKey { message: String },
    #[error("the login was refused: {message}")]
    Denied { message: String },
    #[error("the connection was lost: {message}")]
    Lost { message: String },
    #[error("no end after {} s", limit.as_secs())]
    TimedOut { limit: Duration },
    #[error("an argument holds a zero byte")]
    ZeroByte,
    #[error("ssh failed: {message}")]
    Other { message: String },
    #[error("the file cannot be sent")]
    Input(#[source] io::Error),
    #[error("the program cannot be run")]
    Run(#[source] io::Error),
}

impl TransportError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoSsh => Some("install OpenSSH's client (Debian: `apt-get install openssh-client`)"),
            Self::UnknownHost { .. } => Some("check the name; names of ~/.ssh/config work too"),
            Self::Unreachable { .. } => Some("check that the device is on, its network and the port"),
            Self::UnknownHostKey { .. } => {
                Some("log in once with `ssh` from a terminal and compare the fingerprint with the device's")
            }
            Self::ChangedHostKey { .. } => Some(
                "if the device was installed anew, remove the old key with `ssh-keygen -R HOST`; \
                 if not, somebody may be in between",
            ),
            Self::Denied { .. } => {
                Some("check user, key or agent with `ssh`; a password can be typed in a terminal only")
            }
            Self::Lost { .. } | Self::TimedOut { .. } => {
                Some("run the same command again: it goes on where it stopped; `--status` tells what is active")
            }
            _ => None,
        }
    }
}
