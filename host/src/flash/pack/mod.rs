//! A release as one file, or as an image for container registries: `host-flash pack`.
//!
//! For fleets, whose engines of updates (Mender, balena, a registry) bring a file to many devices and leave to it how
//! it is installed. `docs/update.md` says how.
//!
//! | path | content |
//! |---|---|
//! | `release/` | the release, as it lies on a device (see [`release`](super::release)) |
//! | `steps/*.sh` | the scripts of the protocol, as they run over SSH |
//! | `install` | the script that takes these steps on the device itself |
//!
//! The same input gives the same bytes: files have one owner and one time, and are in the order of their names.

mod archive;
mod image;

use std::io;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use headroom_device::whole_file;
use serde::Serialize;

use super::check::{self, CheckError};
use super::options::Activation;
use super::release::{Release, ReleaseError};
use super::script::Script;
use crate::boards::{self, Board, UnknownBoard};
use crate::prune::with_prefix;

/// The version of what is printed as JSON. A field is only ever added within a version.
pub const PACK_VERSION: u32 = 1;

/// What is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One tar archive.
    #[default]
    Tar,
    /// A folder in the OCI image layout, which `skopeo` and `oras` copy to a registry and containers start from.
    Oci,
}

/// The command line of `host-flash pack`.
#[derive(Clone, Debug, Args)]
pub struct PackArguments {
    /// The board.
    #[arg(long, value_name = "BOARD", value_parser = clap::builder::PossibleValuesParser::new(crate::boards::names()))]
    pub target: String,

    /// The bundle that host-prune wrote.
    #[arg(long, value_name = "DIR")]
    pub bundle: PathBuf,

    /// The program `device-run`, built for the board.
    #[arg(long, value_name = "FILE")]
    pub runtime: PathBuf,

    /// A tar archive, or a folder in the OCI image layout.
    #[arg(long, value_enum, default_value_t = Format::default())]
    pub format: Format,

    /// The archive or folder to write; nothing may be there.
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,

    #[command(flatten)]
    pub activation: Activation,

    /// Pack a bundle that was made for another board.
    #[arg(long)]
    pub allow_board_mismatch: bool,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What was written.
#[derive(Clone, Debug, Serialize)]
pub struct PackReport {
    /// [`PACK_VERSION`].
    pub version: u32,
    pub target: String,
    /// The release's hash: the name of its folder on a device.
    pub release: String,
    pub format: Format,
    pub path: PathBuf,
    /// Of the archive, which is the image's one layer.
    pub bytes: u64,
    /// SHA-256 of the archive.
    pub sha256: String,
    /// The digest of the image's manifest.
    pub manifest: Option<String>,
}

impl PackReport {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let head = format!(
            "release   {}\n{:<9} {}, {}\nsha256    {}",
            self.release,
            if self.manifest.is_some() { "image" } else { "archive" },
            self.path.display(),
            with_prefix(self.bytes as f64, "B"),
            self.sha256,
        );
        match &self.manifest {
            Some(manifest) => format!("{head}\nmanifest  {manifest}"),
            None => head,
        }
    }
}

/// Why nothing was packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    #[error("there is no such board")]
    Board(#[from] UnknownBoard),
    #[error("`{board}` runs no operating system and takes images, not packages")]
    NoLinux { board: &'static str },
    #[error("the release cannot be put together")]
    Release(#[from] ReleaseError),
    #[error("the release does not fit the board")]
    Check(#[from] CheckError),
    #[error("a value of the command line cannot be part of a script")]
    Unquotable(#[from] shlex::QuoteError),
    #[error("`{}` is there already", path.display())]
    Exists { path: PathBuf },
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl PackError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoLinux { board } => {
                Some(format!("`host-flash image --target {board}` makes an image for its flash"))
            }
            Self::Release(ReleaseError::Bundle { source, .. }) => source.hint(),
            Self::Check(error) => error.hint(),
            Self::Exists { .. } => Some("remove it, or give another --out".to_owned()),
            _ => None,
        }
    }
}

/// Packs a release.
///
/// # Errors
/// If board, bundle and runtime do not fit together, or the result cannot be written; nothing is then left.
pub fn pack(arguments: &PackArguments) -> Result<PackReport, PackError> {
    let path = arguments.out.clone();
    let board = boards::find(&arguments.target)?;
    let root = board.profile.deployment.ssh().ok_or(PackError::NoLinux { board: board.name })?.root.to_string();
    let release = Release::of(&arguments.bundle, &arguments.runtime)?;
    check::release(&release, &board.profile, arguments.allow_board_mismatch)?;
    // A device or a pipe is written to, as everywhere.
    if path.symlink_metadata().is_ok_and(|found| found.is_file() || found.is_dir() || found.is_symlink()) {
        return Err(PackError::Exists { path });
    }
    let failed = |source| PackError::Write { path: path.clone(), source };
    let install = install_script(&board, &root, &arguments.activation)?;
    let archive = archive::of(&release, &install).map_err(failed)?;
    let (bytes, sha256) = (archive.len() as u64, headroom_device::bundle::manifest::sha256_hex(&archive));
    let manifest = match arguments.format {
        Format::Tar => {
            whole_file::write(&path, &archive).map_err(failed)?;
            None
        }
        Format::Oci => Some(image::write(&path, &archive, &release).map_err(failed)?),
    };
    let (version, target, format) = (PACK_VERSION, arguments.target.clone(), arguments.format);
    Ok(PackReport { version, target, release: release.hash, format, path, bytes, sha256, manifest })
}

/// The steps that [`install_script`] takes.
const STEPS: [Script; 5] = [Script::Lock, Script::Prepare, Script::Receive, Script::Assemble, Script::Activate];

/// The script `install`: what it works with, and how.
fn install_script(board: &Board, root: &str, activation: &Activation) -> Result<String, PackError> {
    let modules: Vec<&str> = board.profile.identity.modules.value.iter().map(|module| module.as_str()).collect();
    let mut text = "#!/bin/sh\n".to_owned();
    for (name, value) in [
        ("board", board.name),
        ("modules", &modules.join(" ")),
        ("root", root),
        ("unit", &activation.unit),
        ("keep", &activation.keep.to_string()),
        ("steady", &activation.steady.to_string()),
        ("limit", &activation.health_limit.to_string()),
        ("health", &activation.health_command),
    ] {
        text.push_str(&format!("{name}={}\n", shlex::try_quote(value)?));
    }
    text.push_str(include_str!("../scripts/install.sh"));
    Ok(text)
}
