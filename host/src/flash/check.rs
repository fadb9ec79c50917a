//! Whether a release fits a device, before anything is changed.

use headroom_shared::BoardProfile;

use super::facts::{Facts, Root};
use super::release::Release;
use super::runtime_file::LibcVersion;

/// Room that must be left besides what is sent: folders, logs, the file system's own needs.
const RESERVE_BYTES: u64 = 16 << 20;

/// A clock that is further away than this is told. Nothing here relies on it,
/// but logs and certificates do.
const CLOCK_TOLERANCE_SECONDS: u64 = 86_400;

/// Why a release is not installed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    #[error("the bundle is for `{found}`, not for `{expected}`")]
    OtherTarget { expected: String, found: String },
    #[error("the device is another board: `{expected}` is {modules}, found {found}")]
    OtherBoard { expected: String, modules: String, found: String },
    #[error("{what} is for {found}, {whose} is {expected}")]
    Architecture { what: &'static str, whose: &'static str, expected: String, found: String },
    #[error("the runtime needs glibc {needed}, the device has {found}")]
    Libc { needed: LibcVersion, found: LibcVersion },
    #[error("the runtime needs libraries that the device does not have: {}", names.join(", "))]
    Libraries { names: Vec<String>, cuda: Option<String> },
    #[error("the device lacks tools: {}", names.join(", "))]
    Tools { names: Vec<String> },
    #[error("the device has no folder `{root}`")]
    NotSetUp { root: String },
    #[error("the folder `{root}` of the device cannot be written to")]
    Unwritable { root: String },
    #[error("systemd on the device does not know the unit `{unit}`")]
    NoUnit { unit: String },
    #[error("this user may not restart the unit `{unit}`")]
    MayNotRestart { unit: String },
    #[error("the device has room for {free} bytes, {needed} are needed")]
    NoRoom { free: u64, needed: u64 },
}

impl CheckError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let setup = "prepare the device once with the script that --print-setup prints";
        Some(match self {
            Self::OtherTarget { .. } | Self::OtherBoard { .. } => {
                "check --to and --target; --allow-board-mismatch installs nevertheless".into()
            }
            Self::Architecture { .. } => "build the runtime for the board's target".into(),
            Self::Libc { .. } => "build the runtime against an older glibc, or update the device".into(),
            Self::Libraries { names, cuda } if names.iter().any(|name| is_nvidia(name)) => match cuda {
                Some(version) => {
                    format!("the device has CUDA {version}: build the runtime against it, or without `cuda`")
                }
                None => {
                    "install CUDA on the device (JetPack's `nvidia-cuda`), or build the runtime without `cuda`".into()
                }
            },
            Self::NotSetUp { .. } | Self::NoUnit { .. } | Self::MayNotRestart { .. } => setup.into(),
            Self::Unwritable { .. } => {
                format!("if its file system is read-only, mount it writable; if the folder is another user's, {setup}")
            }
            Self::NoRoom { .. } => "make room on the device, or keep fewer releases with --keep".into(),
            Self::Libraries { .. } | Self::Tools { .. } => "install them on the device".into(),
        })
    }
}

fn is_nvidia(library: &str) -> bool {
    ["libcu", "libnv", "libnpp"].iter().any(|start| library.starts_with(start))
}

/// What is asked for.
pub struct Wish<'a> {
    pub board: &'a BoardProfile,
    pub root: &'a str,
    pub unit: &'a str,
    pub allow_board_mismatch: bool,
    /// Seconds since 1970 on this machine.
    pub now: i64,
}

/// Checks what can be told without a device: the release against the board.
///
/// # Errors
/// If they do not fit.
pub fn release(release: &Release, board: &BoardProfile, allow_board_mismatch: bool) -> Result<(), CheckError> {
    let (found, expected) = (&release.description.target, board.name.as_str());
    if found != expected && !allow_board_mismatch {
        return Err(CheckError::OtherTarget { expected: expected.to_owned(), found: found.clone() });
    }
    let triple = board.deployment.target_triple.as_str();
    match release.requirements.architecture {
        Some(found) if !triple.starts_with(found) => Err(CheckError::Architecture {
            what: "the runtime",
            whose: "the board",
            expected: triple.to_owned(),
            found: found.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Checks the device; returns what is odd and does not hinder.
///
/// # Errors
/// The first thing that hinders.
pub fn device(facts: &Facts, release: Option<&Release>, wish: &Wish<'_>) -> Result<Vec<String>, CheckError> {
    let mut warnings = Vec::new();
    if !is_board(facts, wish.board) {
        let error = other_board(facts, wish.board);
        if !wish.allow_board_mismatch {
            return Err(error);
        }
        warnings.push(error.to_string());
    }
    if let Some(release) = release {
        runtime_fits(facts, release, &mut warnings)?;
    }
    if !facts.missing_tools.is_empty() {
        return Err(CheckError::Tools { names: facts.missing_tools.clone() });
    }
    match facts.root {
        Root::Ready => {}
        Root::Missing => return Err(CheckError::NotSetUp { root: wish.root.to_owned() }),
        Root::Unwritable => return Err(CheckError::Unwritable { root: wish.root.to_owned() }),
    }
    if !facts.unit_is_known {
        return Err(CheckError::NoUnit { unit: wish.unit.to_owned() });
    }
    if !facts.may_restart {
        return Err(CheckError::MayNotRestart { unit: wish.unit.to_owned() });
    }
    if let Some(clock) = facts.clock {
        let away = clock.abs_diff(wish.now);
        if away > CLOCK_TOLERANCE_SECONDS {
            let direction = if clock < wish.now { "behind" } else { "ahead of" };
            warnings.push(format!("the device's clock is {} days {direction} this machine's", away / 86_400));
        }
    }
    Ok(warnings)
}

/// Checks that so many bytes fit on the device.
///
/// # Errors
/// If not.
pub fn room(facts: &Facts, bytes: u64) -> Result<(), CheckError> {
    let needed = bytes.saturating_add(RESERVE_BYTES);
    match facts.free {
        Some(free) if free < needed => Err(CheckError::NoRoom { free, needed }),
        _ => Ok(()),
    }
}

fn runtime_fits(facts: &Facts, release: &Release, warnings: &mut Vec<String>) -> Result<(), CheckError> {
    let needs = &release.requirements;
    if let Some(found) = needs.architecture
        && found != facts.machine
    {
        let (expected, found) = (facts.machine.clone(), found.to_owned());
        return Err(CheckError::Architecture { what: "the runtime", whose: "the device", expected, found });
    }
    match (needs.glibc, facts.libc) {
        (Some(needed), Some(found)) if needed > found => return Err(CheckError::Libc { needed, found }),
        (Some(needed), None) => {
            warnings.push(format!("the device does not tell its version of glibc; the runtime needs {needed}"));
        }
        _ => {}
    }
    let names: Vec<String> = needs.libraries.iter().filter(|name| !facts.libraries.contains(name)).cloned().collect();
    if names.is_empty() { Ok(()) } else { Err(CheckError::Libraries { names, cuda: facts.cuda.clone() }) }
}

/// Whether one of the device tree's names is one of the board's modules.
/// The names look like `nvidia,p3768-0000+p3767-0005-super`: maker, carrier and
/// module, and a suffix of the firmware.
fn is_board(facts: &Facts, board: &BoardProfile) -> bool {
    facts.compatible.iter().any(|name| {
        let name = name.split_once(',').map_or(name.as_str(), |(_, name)| name);
        name.split('+').any(|part| {
            let part = part.strip_suffix("-super").unwrap_or(part);
            board.identity.modules.value.iter().any(|module| module.as_str() == part)
        })
    })
}

fn other_board(facts: &Facts, board: &BoardProfile) -> CheckError {
    let modules: Vec<&str> = board.identity.modules.value.iter().map(|module| module.as_str()).collect();
    let found = match (&facts.model, facts.compatible.as_slice()) {
        (None, []) => format!("a {} without a device tree", facts.machine),
        (Some(model), names) => format!("{model} ({})", names.join(" ")),
        (None, names) => names.join(" "),
    };
    CheckError::OtherBoard { expected: board.name.to_string(), modules: modules.join(" or "), found }
}
