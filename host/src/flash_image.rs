//! Makes the image for the flash of a board without an operating system: `host-flash image`.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use headroom_device::bundle::trust::{Trust, TrustError};
use headroom_device::bundle::{Bundle, BundleError};
use headroom_device::whole_file;
use headroom_shared::FlashImageError;
use headroom_shared::board::{DeploymentMethod, MemoryRegion, Microcontroller, ProbeRs};
use serde::Serialize;

use crate::boards::{self, Board, UnknownBoard};
use crate::prune::with_prefix;

/// The version of what is printed as JSON. A field is only ever added within a version.
pub const IMAGE_VERSION: u32 = 1;

/// The command line of `host-flash image`.
#[derive(Clone, Debug, Args)]
pub struct ImageArguments {
    /// The board, such as qemu-mps2-an500.
    #[arg(long, value_name = "BOARD")]
    pub target: String,

    /// The bundle.
    #[arg(long, value_name = "DIR")]
    pub bundle: PathBuf,

    /// The image.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The image that was written.
#[derive(Clone, Debug, Serialize)]
pub struct ImageReport {
    /// [`IMAGE_VERSION`].
    pub version: u32,
    pub target: String,
    /// The SHA-256 of the bundle's manifest.
    pub bundle: String,
    pub image: PathBuf,
    pub bytes: u64,
    /// Where it goes.
    pub address: u32,
    /// The room that there is.
    pub region_bytes: u32,
    /// The chip as probe-rs calls it, where a probe brings the image there.
    pub chip: Option<String>,
}

impl ImageReport {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let bytes = |bytes: u64| with_prefix(bytes as f64, "B");
        let head = format!(
            "bundle   {}\nimage    {}, {} of {} at {:#010x}",
            self.bundle,
            self.image.display(),
            bytes(self.bytes),
            bytes(self.region_bytes.into()),
            self.address
        );
        let Some(chip) = &self.chip else { return head };
        format!(
            "{head}\nflash    probe-rs download --chip {chip} --binary-format bin --base-address {:#010x} --verify {}",
            self.address,
            self.image.display()
        )
    }
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    #[error("there is no such board")]
    Board(#[from] UnknownBoard),
    #[error("`{target}` runs an operating system and takes bundles, not images")]
    NoMicrocontroller { target: String },
    #[error("the trust policy cannot be used")]
    Trust(#[from] TrustError),
    #[error("cannot open the bundle `{}`", path.display())]
    Bundle { path: PathBuf, source: BundleError },
    #[error("the bundle was made for `{found}`, not for `{target}`")]
    OtherBoard { target: String, found: String },
    #[error("the bundle has no integer model, and the board computes in nothing else")]
    NoIntegerModel,
    #[error("the bundle cannot be an image")]
    Image(#[from] FlashImageError),
    #[error("the image has {needed} bytes, the flash that `{target}` has for it {}", region.bytes)]
    TooLarge { target: String, needed: u64, region: MemoryRegion },
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl ImageError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Trust(error) => error.hint(),
            Self::Bundle { source, .. } => source.hint(),
            Self::NoMicrocontroller { target } => Some(format!("`host-flash --target {target} --to HOST` installs it")),
            Self::OtherBoard { target, .. } | Self::TooLarge { target, .. } => {
                Some(format!("make one with `host-prune --target {target}`"))
            }
            Self::NoIntegerModel => Some("make a bundle with `host-prune --precision int8`".to_owned()),
            _ => None,
        }
    }
}

/// A board without an operating system.
pub struct ImageBoard {
    pub board: Board,
    pub memory_map: Microcontroller,
    pub probe: ProbeRs,
}

/// Looks up a board that takes images.
///
/// # Errors
/// If there is none of that name, or it runs an operating system.
pub fn board(target: &str) -> Result<ImageBoard, ImageError> {
    let board = boards::find(target)?;
    match (board.profile.microcontroller.clone(), board.profile.deployment.method.clone()) {
        (Some(memory_map), DeploymentMethod::ProbeRs(probe)) => Ok(ImageBoard { board, memory_map, probe }),
        _ => Err(ImageError::NoMicrocontroller { target: target.to_owned() }),
    }
}

/// The image of a bundle.
pub struct Image {
    /// The SHA-256 of the bundle's manifest.
    pub bundle: String,
    pub bytes: Vec<u8>,
}

impl ImageBoard {
    /// Makes the image of the bundle in the folder `path`, which `trust` must admit where it is there.
    ///
    /// # Errors
    /// If board, bundle and room do not fit together.
    pub fn image(&self, path: &Path, trust: Option<&Trust>) -> Result<Image, ImageError> {
        let bundle =
            Bundle::open_with(path, trust).map_err(|source| ImageError::Bundle { path: path.to_owned(), source })?;
        let target = self.board.name.to_owned();
        if bundle.manifest().target != target {
            return Err(ImageError::OtherBoard { target, found: bundle.manifest().target.clone() });
        }
        let bytes = bundle.flash_image(&self.board.profile)?.ok_or(ImageError::NoIntegerModel)?;
        let (needed, region) = (bytes.len() as u64, self.memory_map.bundle_flash.value);
        if needed > region.bytes.into() {
            return Err(ImageError::TooLarge { target, needed, region });
        }
        Ok(Image { bundle: bundle.hash().to_owned(), bytes })
    }
}

/// Makes and writes the image of a bundle.
///
/// # Errors
/// If board, bundle and room do not fit together, or the image cannot be written.
pub fn write(arguments: &ImageArguments) -> Result<ImageReport, ImageError> {
    let board = board(&arguments.target)?;
    let image = board.image(&arguments.bundle, None)?;
    let path = arguments.out.clone();
    whole_file::write(&path, &image.bytes).map_err(|source| ImageError::Write { path: path.clone(), source })?;
    let region = board.memory_map.bundle_flash.value;
    Ok(ImageReport {
        version: IMAGE_VERSION,
        target: arguments.target.clone(),
        bundle: image.bundle,
        image: path,
        bytes: image.bytes.len() as u64,
        address: region.address,
        region_bytes: region.bytes,
        chip: board.probe.chip.map(|chip| chip.name.to_string()),
    })
}
