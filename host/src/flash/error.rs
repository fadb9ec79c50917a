//! Why flashing failed, and what the user can do about it.

use super::check::CheckError;
use super::release::ReleaseError;
use super::script::Script;
use super::transport::TransportError;
use crate::boards::UnknownBoard;

/// Why a release was not installed or a device not asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlashError {
    #[error("there is no such board")]
    Board(#[from] UnknownBoard),
    #[error("the release cannot be put together")]
    Release(#[from] ReleaseError),
    #[error("`{board}` runs no Linux that SSH could reach")]
    NoLinux { board: &'static str },
    #[error("`{option}` is needed to {purpose}")]
    MissingOption { option: &'static str, purpose: &'static str },
    #[error("cannot read `{}`", path.display())]
    Read { path: std::path::PathBuf, source: std::io::Error },
    #[error("the release does not fit the device")]
    Check(#[from] CheckError),
    #[error("the device cannot be reached")]
    Transport(#[from] TransportError),
    #[error("another host-flash is at work on the device: {owner}")]
    Locked { owner: String },
    #[error("the lock on the device is not ours any more")]
    LockLost,
    #[error("the device has no folder `{root}`")]
    NotSetUp { root: String },
    #[error("the disk of the device is full: {message}")]
    DiskFull { message: String },
    #[error("the file system of the device is read-only: {message}")]
    ReadOnly { message: String },
    #[error("this user may not change files on the device: {message}")]
    NotPermitted { message: String },
    #[error("`{sha256}` arrived with another content than was sent")]
    Corrupt { sha256: String },
    #[error("the transfer was cut short")]
    Short,
    #[error("the device has no release `{hash}`")]
    NoRelease { hash: String },
    #[error("there is no release to go back to")]
    NothingBefore,
    #[error("the program does not start on the device: {message}")]
    NotRunnable { message: String },
    #[error("{reason}; the release before is active again")]
    RolledBack { reason: String, log: String },
    #[error("{reason}; there was no release before, so none is active")]
    Deactivated { reason: String, log: String },
    #[error("{reason}; the release that is active now is not healthy either")]
    Unhealthy { reason: String, log: String },
    #[error("the script `{}` failed on the device with code {}: {message}", script.name(), code.map_or("none".into(), |code| code.to_string()))]
    Script { script: Script, code: Option<i32>, message: String },
    #[error("interrupted")]
    Interrupted,
}

impl FlashError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoLinux { board } => {
                Some(format!("`host-flash --target {board} --bundle DIR` writes it through a debug probe"))
            }
            Self::Check(error) => error.hint(),
            Self::Transport(error) => error.hint().map(str::to_owned),
            Self::Locked { .. } => Some("wait for it; a lock whose owner is gone is taken over without asking".into()),
            Self::NotSetUp { .. } | Self::NotPermitted { .. } => {
                Some("prepare the device once with the script that --print-setup prints".into())
            }
            Self::DiskFull { .. } => Some("make room on the device, or keep fewer releases with --keep".into()),
            Self::ReadOnly { .. } => {
                Some("mount it writable; a disk with faults is mounted read-only by the kernel".into())
            }
            Self::LockLost | Self::Short | Self::Interrupted => {
                Some("run the same command again: it goes on where it stopped".into())
            }
            Self::Corrupt { .. } => Some("check the device's memory and disk, then run the command again".into()),
            Self::RolledBack { log, .. } | Self::Deactivated { log, .. } | Self::Unhealthy { log, .. }
                if !log.is_empty() =>
            {
                Some(format!("it said last: {log}"))
            }
            Self::RolledBack { .. } | Self::Deactivated { .. } | Self::Unhealthy { .. } => {
                Some("`journalctl -u headroom` on the device tells what the program said".into())
            }
            Self::NotRunnable { .. } => {
                Some("check that the runtime was built for this system; nothing was changed".into())
            }
            _ => None,
        }
    }
}
