//! The job of `host-flash`: from a bundle on this machine to a device that
//! serves it.
//!
//! | module | job |
//! |---|---|
//! | [`release`], [`runtime_file`] | what is installed: runtime and bundle as files with hashes; what the runtime needs |
//! | [`facts`], [`check`] | what the device is, and whether the release fits it |
//! | [`destination`], [`transport`], [`ssh`], [`ssh_message`], [`child`] | how scripts reach the device |
//! | [`script`] | the scripts that run on it: the folder `scripts/` |
//! | [`device`], [`status`] | the steps of the protocol |
//! | [`install`] | the steps in order |
//! | [`setup`] | the script that prepares a device once, as root |
//! | [`several`] | many devices at once |
//! | [`pack`] | a release as a file or an image, for other engines of updates |
//! | [`probe`] | boards without an operating system, through a debug probe; nothing below is about them |
//!
//! On the device everything is below one root folder, `/opt/headroom`:
//!
//! | path | content |
//! |---|---|
//! | `objects/<sha256>` | every content once; appears whole, checked and on the disk |
//! | `incoming/<sha256>` | a content that has not all come; the next attempt goes on from there |
//! | `releases/<hash>/` | hard links to objects; appears whole, checked and on the disk |
//! | `current` | a link to the active release, replaced in one step |
//! | `pending` | there while the active release is unproven: the link to go back to |
//! | `previous` | a link to the release that was active and healthy before |
//! | `lock` | a link whose target is the text that says who is at work |
//!
//! What is promised: whenever and wherever this is cut off, `current` leads to a
//! whole release, the old one or the new one. The activation needs the host no
//! more once it has begun. A lock whose process is gone, or that is of an
//! earlier boot, is taken over; clocks play no part in it.
//!
//! Limits: Linux with systemd. A device that loses power between the switch and
//! the health check starts with the unproven release; `--status` says so, and
//! `--rollback` or the next installation deals with it.

pub mod check;
pub mod child;
pub mod destination;
pub mod device;
mod error;
pub mod facts;
pub mod install;
mod options;
pub mod pack;
pub mod probe;
pub mod release;
mod report;
pub mod runtime_file;
pub mod script;
pub mod setup;
mod several;
pub mod ssh;
pub mod ssh_message;
pub mod status;
pub mod transport;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use headroom_shared::board::Ssh as SshFolders;

use crate::boards::{self, Board};
use crate::progress::Progress;
use check::Wish;
use device::{Device, Health};
use install::Job;
use release::Release;
use setup::Setup;
use ssh::Ssh;

pub use error::FlashError;
pub use options::{Activation, Options, Task};
pub use report::{FLASH_VERSION, Failure, FlashReport, HostReport, Outcome};

/// The script that prepares a device.
///
/// # Errors
/// If the unit's file cannot be read.
pub fn setup_script(options: &Options) -> Result<String, FlashError> {
    let board = boards::find(&options.target)?;
    let missing = FlashError::MissingOption { option: "--unit-file", purpose: "print the setup" };
    let unit_path = options.unit_file.as_deref().ok_or(missing)?;
    let unit_file = read(unit_path)?;
    let limits_file = options.limits_file.as_deref().map_or(Ok(String::new()), read)?;
    let folders = folders(&board)?;
    let setup = Setup {
        board: &board.profile,
        folders,
        root: root(options, folders),
        unit: &options.activation.unit,
        unit_file: &unit_file,
        limits_file: &limits_file,
    };
    let unquotable = |error| FlashError::Read { path: unit_path.to_owned(), source: std::io::Error::other(error) };
    setup.text().map_err(unquotable)
}

fn read(path: &Path) -> Result<String, FlashError> {
    std::fs::read_to_string(path).map_err(|source| FlashError::Read { path: path.to_owned(), source })
}

/// Does what the options ask for on every device. What fails on one does not
/// hinder the others and is part of the report.
///
/// # Errors
/// If it cannot begin: the release cannot be put together or is for another board.
pub fn run(options: &Options, progress: &dyn Progress, interrupt: &AtomicBool) -> Result<FlashReport, FlashError> {
    let board = boards::find(&options.target)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64);
    let owner = owner(now);
    let job = Job {
        wish: Wish {
            board: &board.profile,
            root: root(options, folders(&board)?),
            unit: &options.activation.unit,
            allow_board_mismatch: options.allow_board_mismatch,
            now,
        },
        system: &options.system_root,
        health: Health {
            unit: options.activation.unit.clone(),
            steady_seconds: options.activation.steady,
            limit_seconds: options.activation.health_limit,
            command: options.activation.health_command.clone(),
        },
        keep: options.activation.keep,
        owner: &owner,
        interrupt,
    };
    let release = if options.task.installs() { Some(release(options, &job.wish)?) } else { None };
    let hosts = several::run(&options.to, progress, |destination, progress, warnings| {
        let ssh = Ssh::connect(destination, options.ssh_config.clone())?;
        let device = Device::new(&ssh, job.wish.root);
        match &release {
            Some(release) => job.install(&device, release, options.task.dry_run, progress, warnings),
            None if options.task.rollback => job.roll_back(&device, progress),
            None => device.status(&options.activation.unit).map(Outcome::Status),
        }
    });
    Ok(FlashReport { version: FLASH_VERSION, target: options.target.clone(), hosts })
}

impl Task {
    /// Whether a release is needed.
    fn installs(&self) -> bool {
        !(self.rollback || self.status || self.list || self.print_setup)
    }
}

fn release(options: &Options, wish: &Wish<'_>) -> Result<Release, FlashError> {
    let missing = |option| FlashError::MissingOption { option, purpose: "install" };
    let bundle = options.bundle.as_deref().ok_or_else(|| missing("--bundle"))?;
    let runtime = options.runtime.as_deref().ok_or_else(|| missing("--runtime"))?;
    let release = Release::of(bundle, runtime)?;
    check::release(&release, wish.board, wish.allow_board_mismatch)?;
    Ok(release)
}

fn folders(board: &Board) -> Result<&SshFolders, FlashError> {
    board.profile.deployment.ssh().ok_or(FlashError::NoLinux { board: board.name })
}

fn root<'a>(options: &'a Options, folders: &'a SshFolders) -> &'a str {
    options.root.as_deref().unwrap_or(&folders.root)
}

/// Who takes the lock, in characters that mean nothing to a shell.
fn owner(now: i64) -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let plain = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect()
    };
    format!("{}@{} process {} since {now}", plain(&user), plain(&host), std::process::id())
}
